"""The output folder: who may write there, what is there already, and how a part is added for good."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from siglip_jobs import atomic, lock, manifest
from siglip_jobs.errors import OutputError
from siglip_jobs.lock import Lock
from siglip_jobs.manifest import Manifest, PartEntry
from siglip_jobs.parts import Layout, Part

SHOWN_FILES = 5
_PART_BEGUN = re.compile(rf"part-\d+\..*{atomic.UNFINISHED}")


class Output:
    """A part counts from the moment on that the manifest names it.

    Its files are written first, to the disk, under unfinished names; then the manifest; then they get
    their names. A process that dies between the two last steps leaves that to the next one.
    """

    def __init__(self, folder: Path) -> None:
        """Makes the folder where there is none. Raises OutputError for one that is used otherwise."""
        self.folder = folder
        self._made = not folder.exists()
        _refuse_foreign(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None
        self._lock = Lock(folder)
        self.manifest: Manifest | None = None
        self.unverified_parts = 0
        """Those that were to be compared with their checksums and have none."""

    def begin(self, now: Manifest, verify: bool = False) -> Manifest:
        """The manifest to go on with: `now`, or that of the job that is there. Raises OutputError.

        verify: what is there is read and compared with its checksums, not only its sizes.
        """
        if (self.folder / manifest.NAME).exists():
            found = Manifest.load(self.folder)
            found.check_same(now, self.folder)
            self.manifest = found
            self._recover(found)
            if verify:
                self._verify(found)
        else:
            self.manifest = now
        return self.manifest

    def add(self, part: Part, layout: Layout) -> None:
        """Raises OutputError; the part is then not there, and everything before it is."""
        assert self.manifest
        number = len(self.manifest.parts)
        files = layout.write(part, self.folder, number)
        sha256 = {name: atomic.digest(atomic.unfinished(self.folder / name)) for name in files}
        failed = sum(error is not None for error in part.errors)
        self.manifest.finished = False
        self.manifest.parts.append(PartEntry(files, len(part), failed, part.end, part.check.hex(), sha256))
        try:
            self.manifest.save(self.folder)
        except OutputError:
            self.manifest.parts.pop()
            for name in files:
                atomic.unfinished(self.folder / name).unlink(missing_ok=True)
            raise
        for name in files:
            atomic.finish(self.folder / name)

    def save(self) -> None:
        """The manifest as it is now."""
        assert self.manifest
        self.manifest.save(self.folder)

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """A file beside the parts. Raises OutputError."""
        atomic.write(self.folder / name, write)

    def close(self) -> None:
        """A folder that was made here and in which nothing was written goes again."""
        if self._made and os.listdir(self.folder) == [lock.NAME]:  # noqa: PTH208
            (self.folder / lock.NAME).unlink()
            self.folder.rmdir()
        self._lock.close()

    def _recover(self, found: Manifest) -> None:
        for name, size in (item for part in found.parts for item in part.files.items()):
            path = self.folder / name
            if not path.exists() and atomic.unfinished(path).exists():
                atomic.finish(path)
            _check(path, size)
        known = {name for part in found.parts for name in part.files}
        for path in self.folder.iterdir():
            if path.name.endswith(atomic.UNFINISHED):
                path.unlink()
            elif path.name.startswith("part-") and path.name not in known:
                raise OutputError(f"{path} is no part of the job in {self.folder}: move it elsewhere")

    def _verify(self, found: Manifest) -> None:
        self.unverified_parts = sum(not part.sha256 for part in found.parts)
        for name, sha256 in (item for part in found.parts for item in part.sha256.items()):
            if atomic.digest(self.folder / name) != sha256:
                raise _damaged(self.folder / name, "is not as it was written (its SHA-256 differs)")


def _damaged(path: Path, what: str) -> OutputError:
    return OutputError(f"{path} {what}: put it back, or start again with another --out")


def _check(path: Path, size: int) -> None:
    found = path.stat().st_size if path.exists() else None
    if found != size:
        what = "is missing" if found is None else f"has {found} bytes, not {size} as written"
        raise _damaged(path, what)


def _refuse_foreign(folder: Path) -> None:
    """A folder with other things in it, and none of them a manifest, is not for us."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and --out must be a folder")
    if not folder.exists() or (folder / manifest.NAME).exists():
        return
    ours = (lock.NAME, manifest.NAME + atomic.UNFINISHED)
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from None
    held = [name for name in names if name not in ours and not _PART_BEGUN.fullmatch(name)]
    if held:
        more = f" and {len(held) - SHOWN_FILES} more" if len(held) > SHOWN_FILES else ""
        raise OutputError(
            f"{folder} is no output of a job and not empty, it holds {', '.join(held[:SHOWN_FILES])}{more}: "
            "give a new or an empty folder"
        )
