"""One job at a time in a folder."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from siglip_jobs.errors import OutputError

NAME = ".lock"


class Lock:
    """Held until it is closed, or the process ends in whatever way."""

    def __init__(self, folder: Path) -> None:
        """Raises OutputError that names the process that holds it."""
        try:
            self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutputError(f"cannot write in {folder}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 200).decode(errors="replace").strip() or "another process"
            os.close(self._file)
            raise OutputError(f"{folder} is being written by {holder}: one job at a time") from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
