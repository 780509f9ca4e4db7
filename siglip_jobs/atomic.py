"""Writes files so that a reader, and a machine that loses power, sees the old one or the new one whole."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from siglip_jobs.errors import OutputError

UNFINISHED = ".unfinished"
"""How names of files end that are being written."""


def write_unfinished(target: Path, write: Callable[[BinaryIO], object]) -> int:
    """Writes all of it to the disk, under another name. Returns the bytes. Raises OutputError."""
    partial = unfinished(target)
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; what was written before is whole: "
            "make room or amends and run the same command again"
        ) from error


def digest(path: Path) -> str:
    """SHA-256 of all of it, in hexadecimal. Raises OutputError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from None


def finish(target: Path) -> None:
    """Gives it its name, and takes care that the folder knows."""
    unfinished(target).replace(target)
    sync(target.parent)


def write(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Both. Raises OutputError."""
    write_unfinished(target, write)
    finish(target)


def unfinished(target: Path) -> Path:
    return target.with_name(target.name + UNFINISHED)


def sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
