"""A job in n shares, each for another machine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from siglip_jobs.errors import JobError, OutputError
from siglip_jobs.ids import digest

_NAME = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `index`, counted from 0, of `count`. An item's id decides whose it is, and nothing else."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "i/n". Raises JobError."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found or int(found[1]) >= int(found[2]):
            raise JobError(f"--shard is {text!r}; it must be i/n with i from 0 to n-1, as 0/4, 1/4, 2/4, 3/4")
        return cls(int(found[1]), int(found[2]))

    def holds(self, identity: str) -> bool:
        return self.count == 1 or int.from_bytes(digest(identity)[:8]) % self.count == self.index

    def folder(self, out: Path) -> Path:
        """Where its part of the output is. Raises OutputError where `out` is divided otherwise."""
        mine = out if self.count == 1 else out / f"shard-{self.index}-of-{self.count}"
        others = [path.name for path in shard_folders(out) if path.name != mine.name]
        for name in others:
            if (found := _NAME.fullmatch(name)) and int(found[2]) != self.count:
                raise OutputError(
                    f"{out} holds {name}: the same job in other shares; give the same n, or another --out"
                )
        if self.count > 1 and (out / "manifest.json").exists():
            raise OutputError(f"{out} holds a job that is not in shares: give another --out")
        return mine


def shard_folders(out: Path) -> list[Path]:
    """Sorted by their number."""
    found = [(int(match[1]), path) for path in out.glob("shard-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]
