"""The private folder of one running service; those of killed ones are swept at the next start."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "siglip-"
_LOCK = "lock"


@contextmanager
def run_folder(base: Path | None) -> Iterator[Path]:
    """Makes a folder of mode 700 in `base` (default: the system's temporary folder), removed at exit.

    Its owner holds a lock as long as it lives, so a folder whose lock is free was left by a killed one.
    Raises OSError when `base` cannot be written to.
    """
    base = base or Path(tempfile.gettempdir())
    made_base = not base.exists()
    base.mkdir(parents=True, exist_ok=True)
    _sweep(base)
    folder, lock = _create(base)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        if made_base and not any(base.iterdir()):
            base.rmdir()


def _create(base: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = _try_lock(folder / _LOCK, os.O_CREAT)
        if lock is not None:
            return folder, lock
        # Another start swept it in the instant before it was locked.
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        lock = _try_lock(folder / _LOCK)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _try_lock(path: Path, flags: int = 0) -> int | None:
    """The locked descriptor, or None when another holds it or there is no such file of ours."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == path.stat().st_ino and os.fstat(lock).st_uid == os.getuid():
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
