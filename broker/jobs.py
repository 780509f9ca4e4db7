"""What travels: rows in, vectors or errors out. The words that gateway, worker and broker share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Tower = Literal["text", "vision"]
JobClass = Literal["interactive", "batch"]
Dtype = Literal["int32", "uint8"]

JOB_CLASSES: tuple[JobClass, ...] = ("interactive", "batch")
# Small entries let several workers share one large request.
ROWS_PER_ENTRY: dict[Tower, int] = {"text": 64, "vision": 8}
DTYPE_OF: dict[Tower, Dtype] = {"text": "int32", "vision": "uint8"}
ITEM_BYTES: dict[str, int] = {"int32": 4, "uint8": 1}


class RedisUrls(Protocol):
    """How to reach Redis; `siglip_settings.RedisSettings` and all that inherit from it are one."""

    @property
    def redis_url(self) -> str | None: ...
    @property
    def redis_password(self) -> str | None: ...
    @property
    def redis_ca_file(self) -> str | None: ...
    @property
    def redis_cert_file(self) -> str | None: ...
    @property
    def redis_key_file(self) -> str | None: ...
    @property
    def redis_sentinel_name(self) -> str | None: ...
    @property
    def redis_cluster(self) -> Literal["off", "on"]: ...
    @property
    def redis_shards(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One embedding: float32 little-endian unit vector, and the length it had before normalising.

    `numerics` says with what it was computed, as `WorkerInfo.numerics`; empty where that is not known.
    """

    vector: bytes
    norm: float
    numerics: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has no vector. `reason` is stable UPPER_SNAKE; `retryable`: trying again may help."""

    reason: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order asked. Times are the largest over the entries the call was split into."""

    rows: list[Row | RowError]
    dim: int
    queue_us: int
    compute_us: int


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as others see it; `fingerprint` digests its weights and preprocessing."""

    worker_id: str
    tower: Tower
    device: str
    dtype: str
    attention: str
    fingerprint: str
    model: str = ""
    host: str = ""
    pid: int = 0
    max_batch_rows: int = 0
    """What it computes at once; 0: not known yet."""

    @property
    def numerics(self) -> str:
        """Workers that are equal in this give equal vectors."""
        return f"{self.device.partition(':')[0]}/{self.dtype}/{self.attention}"


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker has done since its start."""

    rows: int = 0
    batches: int = 0
    compute_us: int = 0
    entries: int = 0
    wait_us: int = 0
    """Of all entries in sum, until they were computed."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Entries of one tower and class, over all gateways, as last seen. `oldest_s`: of this gateway's."""

    tower: Tower
    job_class: JobClass
    entries: int
    oldest_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work of one entry: `payload` is the C-ordered tensor of `shape` (rows first) and `dtype`.

    A quarantined job is one row of an entry with which workers have died: its rows run one by one, and
    nothing else runs beside them. `trace_context` is the waiting span's, for the traces' own reader only.
    """

    job_id: bytes
    stream: str
    entry_id: bytes
    gateway_id: str
    shape: tuple[int, ...]
    dtype: str
    payload: bytes
    deadline_ms: int
    enqueued_ms: int
    quarantined: bool = False
    row: int = 0
    trace_context: str = ""

    @property
    def rows(self) -> int:
        """How many rows the job has."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class JobResult:
    """A worker's answer to one job.

    `vectors` are float32 little-endian [rows, dim] of length 1 and `norms` float32 [rows]; rows named in
    `errors` are ignored there (zeros). When every row failed, `dim` may be 0 and both empty.
    """

    job: Job
    vectors: bytes = b""
    norms: bytes = b""
    dim: int = 0
    compute_us: int = 0
    errors: Mapping[int, RowError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dim == 0 and len(self.errors) == self.job.rows:
            return
        expected = (self.job.rows * self.dim * 4, self.job.rows * 4)
        if self.dim == 0 or (len(self.vectors), len(self.norms)) != expected:
            raise ValueError(
                f"{self.job.rows} rows of {self.dim} need {expected} bytes of vectors and norms, "
                f"not {(len(self.vectors), len(self.norms))}"
            )

    @classmethod
    def failed(cls, job: Job, error: RowError) -> "JobResult":
        """Every row of the job has this error."""
        return cls(job, errors=dict.fromkeys(range(job.rows), error))
