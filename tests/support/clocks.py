"""Processes whose wall clock is wrong, by libfaketime; the monotonic clock stays as it is."""

from pathlib import Path

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
NO_LIBRARY = "no libfaketime on this machine (Debian: faketime)"


def wrong_by(seconds: int) -> dict[str, str]:
    """Variables of a process that is ahead, or behind; none where there is no libfaketime."""
    if LIBRARY is None or not seconds:
        return {}
    return {"FAKETIME": f"{seconds:+d}s", **_preload()}


def half_each_way(name: str) -> dict[str, str]:
    """Of parts whose names end with numbers, the first is 10 minutes ahead, and the others are behind."""
    return wrong_by(600 if name.endswith("0") else -600)


def set_by(file: Path) -> dict[str, str]:
    """Variables of a process whose clock jumps as often as `jump` is called."""
    return {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1", **_preload()}


def jump(file: Path, seconds: int) -> None:
    """All who read this file are so far off from now on."""
    new = file.with_suffix(".new")
    new.write_text(f"{seconds:+d}s\n")
    new.replace(file)


def _preload() -> dict[str, str]:
    return {"LD_PRELOAD": str(LIBRARY), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
