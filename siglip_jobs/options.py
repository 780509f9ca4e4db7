"""How a job is to run, how far it is, and what it came to."""

from dataclasses import dataclass, field
from typing import Literal

from siglip_jobs.parts import Dtype, FileFormat
from siglip_jobs.shards import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`format`, `dtype`, `columns` and `shard` decide what is written: a job cannot go on with others."""

    format: FileFormat = "parquet"
    dtype: Dtype = "f32"
    shard: Shard = field(default_factory=Shard)
    decode: Literal["gateway", "client"] = "gateway"
    """client: pictures are decoded here, in `decode_processes` processes."""
    decode_processes: int = 1
    rows_per_part: int = 20_000
    part_every_s: float = 60.0
    """A part is written when it has been open for so long, full or not."""
    patience_s: float = 600.0
    """Without any progress, before the job gives up."""
    verify: bool = False
    """What is written already is compared with its checksums first."""


@dataclass(slots=True)
class Progress:
    """Rows; those before were written by earlier runs. `total` is None as long as it is not known."""

    before: int
    failed_before: int
    done: int = 0
    failed: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the output holds, and what this run did."""

    rows: int
    failed: int
    duplicates: int
    vanished: int
    """Rows of files that are not there any more; they are kept."""
    vanished_ids: list[str]
    """The first ones."""
    done_now: int
    unverified_parts: int
    """Written by a version without checksums: `verify` could not compare them."""
    seconds: float
    finished: bool

    @property
    def all_right(self) -> bool:
        return self.finished and not (self.failed or self.duplicates or self.unverified_parts)
