"""What is trained on: where each picture lies and what its captions are. No torch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from siglip_model.finetune.recipe import TrainingError

SHOWN = 5  # bad pairs in an error message


@dataclass(frozen=True, slots=True)
class Pair:
    name: str
    """For messages."""
    file: Path
    captions: tuple[str, ...]
    """One of them is drawn each time."""
    label: str | None = None
    start: int = 0
    """First byte of the picture in `file`."""
    size: int | None = None
    """Bytes of the picture; None: the whole file."""

    def read(self, max_bytes: int) -> bytes:
        """One byte more than `max_bytes` at most. Raises OSError."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(max_bytes + 1 if self.size is None else self.size)


@dataclass
class Bad:
    """Pairs that cannot be used, by name, each with its reason."""

    limit: int
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.reasons.setdefault(name, reason)

    def check(self) -> None:
        """Raises TrainingError when there are more than the limit."""
        if len(self.reasons) > self.limit:
            shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:SHOWN])
            raise TrainingError(
                f"{len(self.reasons)} pairs cannot be used, --max-bad-pairs is {self.limit}: {shown}"
            )


@dataclass(frozen=True)
class Data:
    pairs: Sequence[Pair]
    labels: tuple[str, ...] = ()
    """Of data whose folders are class labels."""

    def digest(self) -> str:
        """Changes with any name or caption, and with their order."""
        found = hashlib.sha256()
        for pair in self.pairs:
            found.update(repr((pair.name, pair.captions)).encode("utf-8", "surrogatepass"))
        return found.hexdigest()
