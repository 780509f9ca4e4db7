from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobHeader(_message.Message):
    __slots__ = ("version", "job_id", "gateway_id", "fingerprint", "dtype", "shape", "deadline_ms", "trace_context")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    version: int
    job_id: bytes
    gateway_id: str
    fingerprint: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    deadline_ms: int
    trace_context: str
    def __init__(self, version: _Optional[int] = ..., job_id: _Optional[bytes] = ..., gateway_id: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., deadline_ms: _Optional[int] = ..., trace_context: _Optional[str] = ...) -> None: ...

class JobReply(_message.Message):
    __slots__ = ("job_id", "rows", "error", "queue_us", "compute_us")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    rows: RowsReply
    error: RowError
    queue_us: int
    compute_us: int
    def __init__(self, job_id: _Optional[bytes] = ..., rows: _Optional[_Union[RowsReply, _Mapping]] = ..., error: _Optional[_Union[RowError, _Mapping]] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...

class RowsReply(_message.Message):
    __slots__ = ("vectors", "norms", "dim", "errors", "numerics")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    NORMS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    vectors: bytes
    norms: bytes
    dim: int
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    numerics: str
    def __init__(self, vectors: _Optional[bytes] = ..., norms: _Optional[bytes] = ..., dim: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ..., numerics: _Optional[str] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("row", "reason", "message", "retryable")
    ROW_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    row: int
    reason: str
    message: str
    retryable: bool
    def __init__(self, row: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ...) -> None: ...

class ReplyBatch(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[JobReply]
    def __init__(self, replies: _Optional[_Iterable[_Union[JobReply, _Mapping]]] = ...) -> None: ...

class WorkerLease(_message.Message):
    __slots__ = ("worker_id", "tower", "device", "dtype", "attention", "fingerprint", "model", "host", "pid", "work", "max_batch_rows")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    TOWER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    tower: str
    device: str
    dtype: str
    attention: str
    fingerprint: str
    model: str
    host: str
    pid: int
    work: WorkerWork
    max_batch_rows: int
    def __init__(self, worker_id: _Optional[str] = ..., tower: _Optional[str] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., attention: _Optional[str] = ..., fingerprint: _Optional[str] = ..., model: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., work: _Optional[_Union[WorkerWork, _Mapping]] = ..., max_batch_rows: _Optional[int] = ...) -> None: ...

class WorkerWork(_message.Message):
    __slots__ = ("rows", "batches", "compute_us", "entries", "wait_us")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    rows: int
    batches: int
    compute_us: int
    entries: int
    wait_us: int
    def __init__(self, rows: _Optional[int] = ..., batches: _Optional[int] = ..., compute_us: _Optional[int] = ..., entries: _Optional[int] = ..., wait_us: _Optional[int] = ...) -> None: ...

class CachedRow(_message.Message):
    __slots__ = ("key", "vector", "norm", "numerics")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    vector: bytes
    norm: float
    numerics: str
    def __init__(self, key: _Optional[bytes] = ..., vector: _Optional[bytes] = ..., norm: _Optional[float] = ..., numerics: _Optional[str] = ...) -> None: ...

class StoredLabelSet(_message.Message):
    __slots__ = ("labels", "templates", "vectors", "numerics")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    templates: _containers.RepeatedScalarFieldContainer[str]
    vectors: bytes
    numerics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., templates: _Optional[_Iterable[str]] = ..., vectors: _Optional[bytes] = ..., numerics: _Optional[_Iterable[str]] = ...) -> None: ...
