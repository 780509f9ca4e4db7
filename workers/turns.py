"""Workers measure one after the other: side by side on one machine, each would measure the other, too.

Those that share a temporary folder do, as all of one `siglip serve`.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

# A worker that hangs in its turn must not keep the others from starting.
LONGEST_WAIT_S = 60.0
LOOK_EVERY_S = 0.05


@contextmanager
def turn(
    folder: Path | None = None,
    longest_wait_s: float = LONGEST_WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bool]:
    """Alone among this user's workers with this folder, as long as the block runs; False where it cannot be.

    A turn ends with its process, however that ends.
    """
    lock = _open(folder or Path(tempfile.gettempdir()))
    if lock is None:
        yield False
        return
    try:
        yield _wait_for(lock, longest_wait_s, sleep)
    finally:
        os.close(lock)


def _open(folder: Path) -> int | None:
    file = folder / f"siglip-{os.getuid()}-measuring.lock"
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.info("measures without waiting for other workers: %s", error)
        return None


def _wait_for(lock: int, longest_wait_s: float, sleep: Callable[[float], None]) -> bool:
    until_s = time.monotonic() + longest_wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                log.warning(
                    "another worker has measured for %g s: this one measures beside it", longest_wait_s
                )
                return False
            sleep(LOOK_EVERY_S)
        except OSError as error:
            # Some file systems have no locks.
            log.info("measures without waiting for other workers: %s", error)
            return False
        else:
            return True
