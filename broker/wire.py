"""Bytes in Redis <-> our types. Nothing read from Redis is trusted before `check_header` has passed."""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict

from google.protobuf.message import DecodeError
from siglip.broker.v1 import job_pb2

from broker.jobs import (
    DTYPE_OF,
    ITEM_BYTES,
    ROWS_PER_ENTRY,
    Job,
    JobResult,
    Row,
    RowError,
    Tower,
    Work,
    WorkerInfo,
)
from broker.keys import HEADER_FIELD, PAYLOAD_FIELD

VERSION = 1
MAX_HEADER_BYTES = 4096
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
# What is longer is not carried, and not read.
MAX_TRACE_CONTEXT_CHARACTERS = 640
MAX_NUMERICS_CHARACTERS = 64
# What rounding leaves of a unit vector's length.
UNIT_TOLERANCE = 1e-3
GATEWAY_ID = re.compile(r"[a-z0-9-]{16,64}")


class InvalidEntry(Exception):
    """An entry that no worker may touch. `reply_to` is set when the header says who waits, and for what."""

    def __init__(self, reason: str, message: str, reply_to: tuple[str, bytes] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.reply_to = reply_to


def pack_header(
    *,
    job_id: bytes,
    gateway_id: str,
    fingerprint: str,
    dtype: str,
    shape: tuple[int, ...],
    deadline_ms: int,
    trace_context: str = "",
) -> bytes:
    """Header bytes of one entry."""
    header = job_pb2.JobHeader(
        version=VERSION,
        job_id=job_id,
        gateway_id=gateway_id,
        fingerprint=fingerprint,
        dtype=dtype,
        shape=shape,
        deadline_ms=deadline_ms,
        trace_context=_bounded(trace_context),
    )
    return header.SerializeToString()


def unpack_entry(
    stream: str, entry_id: bytes, fields: Mapping[bytes, bytes], *, tower: Tower, fingerprint: str
) -> Job:
    """The job of an entry, or InvalidEntry."""
    header = parse_header(fields.get(HEADER_FIELD, b""))
    payload = fields.get(PAYLOAD_FIELD, b"")
    check_header(header, len(payload), tower=tower, fingerprint=fingerprint)
    return Job(
        job_id=header.job_id,
        stream=stream,
        entry_id=entry_id,
        gateway_id=header.gateway_id,
        shape=tuple(header.shape),
        dtype=header.dtype,
        payload=payload,
        deadline_ms=header.deadline_ms,
        enqueued_ms=int(entry_id.partition(b"-")[0]),
        trace_context=_bounded(header.trace_context),
    )


def _bounded(trace_context: str) -> str:
    return trace_context if len(trace_context) <= MAX_TRACE_CONTEXT_CHARACTERS else ""


def parse_header(data: bytes) -> job_pb2.JobHeader:
    """Parses, and checks what is needed to answer at all."""
    if not 0 < len(data) <= MAX_HEADER_BYTES:
        raise InvalidEntry("INVALID_JOB", f"header of {len(data)} bytes; 1 to {MAX_HEADER_BYTES} allowed")
    try:
        header = job_pb2.JobHeader.FromString(data)
    except DecodeError as error:
        raise InvalidEntry("INVALID_JOB", f"header is no JobHeader: {error}") from error
    if len(header.job_id) != 16 or not GATEWAY_ID.fullmatch(header.gateway_id):
        raise InvalidEntry("INVALID_JOB", "header names no job or no gateway")
    return header


def check_header(header: job_pb2.JobHeader, payload_bytes: int, *, tower: Tower, fingerprint: str) -> None:
    """Refuses what a worker of this tower cannot run."""

    def refuse(reason: str, message: str) -> InvalidEntry:
        return InvalidEntry(reason, message, (header.gateway_id, header.job_id))

    if header.version != VERSION:
        raise refuse("INVALID_JOB", f"version is {header.version}; this worker speaks {VERSION}")
    if header.fingerprint != fingerprint:
        message = f"gateway serves {header.fingerprint[:64]!r}, this worker {fingerprint!r}"
        raise refuse("FINGERPRINT_MISMATCH", message)
    if header.dtype != DTYPE_OF[tower]:
        raise refuse("INVALID_JOB", f"dtype is {header.dtype[:16]!r}; {tower} takes {DTYPE_OF[tower]!r}")
    if not 2 <= len(header.shape) <= 4 or not 1 <= header.shape[0] <= ROWS_PER_ENTRY[tower]:
        message = (
            f"shape is {list(header.shape[:5])}; 1 to {ROWS_PER_ENTRY[tower]} rows of 1 to 3 axes allowed"
        )
        raise refuse("INVALID_JOB", message)
    expected = math.prod(header.shape) * ITEM_BYTES[header.dtype]
    if payload_bytes != expected or not 0 < expected <= MAX_PAYLOAD_BYTES:
        message = f"payload has {payload_bytes} bytes; shape says {expected}, limit is {MAX_PAYLOAD_BYTES}"
        raise refuse("INVALID_JOB", message)


def reply_of(result: JobResult, queue_us: int, numerics: str = "") -> job_pb2.JobReply:
    """The message for one result, computed with `numerics`."""
    errors = [
        job_pb2.RowError(row=row, reason=e.reason, message=e.message, retryable=e.retryable)
        for row, e in result.errors.items()
    ]
    rows = job_pb2.RowsReply(
        vectors=result.vectors, norms=result.norms, dim=result.dim, errors=errors, numerics=numerics
    )
    return job_pb2.JobReply(
        job_id=result.job.job_id, rows=rows, queue_us=max(0, queue_us), compute_us=result.compute_us
    )


def refusal(job_id: bytes, error: RowError) -> job_pb2.JobReply:
    """The message for a job of which nothing was computed."""
    packed = job_pb2.RowError(reason=error.reason, message=error.message, retryable=error.retryable)
    return job_pb2.JobReply(job_id=job_id, error=packed)


def pack_replies(replies: list[job_pb2.JobReply]) -> bytes:
    """One reply entry's value."""
    return job_pb2.ReplyBatch(replies=replies).SerializeToString()


def unpack_replies(data: bytes) -> list[job_pb2.JobReply]:
    """Replies of one reply entry; ValueError when it is none of ours."""
    try:
        return list(job_pb2.ReplyBatch.FromString(data).replies)
    except DecodeError as error:
        raise ValueError(f"reply entry is no ReplyBatch: {error}") from error


def rows_of(reply: job_pb2.JobReply, rows: int) -> list[Row | RowError]:
    """The `rows` rows that a reply answers; ValueError when it holds another number."""
    if reply.WhichOneof("outcome") != "rows":
        return [_row_error(reply.error)] * rows
    answered, vector_bytes = reply.rows, reply.rows.dim * 4
    errors = {error.row: _row_error(error) for error in answered.errors if error.row < rows}
    expected = (rows * vector_bytes, rows * 4)
    if len(errors) == rows:
        return [errors[row] for row in range(rows)]
    if vector_bytes == 0 or (len(answered.vectors), len(answered.norms)) != expected:
        raise ValueError(f"reply holds {len(answered.vectors)} bytes for {rows} rows of {answered.dim}")
    norms = struct.unpack(f"<{len(answered.norms) // 4}f", answered.norms)
    vectors, numerics = answered.vectors, answered.numerics
    if len(numerics) > MAX_NUMERICS_CHARACTERS:
        numerics = ""
    return [
        errors.get(i) or Row(vectors[i * vector_bytes : (i + 1) * vector_bytes], norms[i], numerics)
        for i in range(rows)
    ]


def _row_error(error: job_pb2.RowError) -> RowError:
    return RowError(error.reason, error.message, error.retryable)


def pack_lease(info: WorkerInfo, work: Work) -> bytes:
    """Value of a lease key."""
    done = job_pb2.WorkerWork(**asdict(work))
    return job_pb2.WorkerLease(**asdict(info), work=done).SerializeToString()


def unpack_lease(data: bytes) -> tuple[WorkerInfo, Work] | None:
    """Who holds a lease, and what it has done; None when the value is none of ours."""
    try:
        lease = job_pb2.WorkerLease.FromString(data)
    except DecodeError:
        return None
    info = WorkerInfo(
        lease.worker_id,
        "text" if lease.tower == "text" else "vision",
        lease.device,
        lease.dtype,
        lease.attention,
        lease.fingerprint,
        lease.model,
        lease.host,
        lease.pid,
        lease.max_batch_rows,
    )
    work = lease.work
    return info, Work(work.rows, work.batches, work.compute_us, work.entries, work.wait_us)


def pack_row(key: bytes, row: Row) -> bytes:
    """Value of a cache key; `key` is the digest that it is named by."""
    cached = job_pb2.CachedRow(key=key, vector=row.vector, norm=row.norm, numerics=row.numerics)
    return cached.SerializeToString()


def unpack_row(key: bytes, data: bytes, dim: int) -> Row | None:
    """None when the value is not a unit vector of `dim` numbers that was written for this key."""
    try:
        cached = job_pb2.CachedRow.FromString(data)
    except DecodeError:
        return None
    if cached.key != key or len(cached.vector) != dim * 4 or len(cached.numerics) > MAX_NUMERICS_CHARACTERS:
        return None
    # Not a number, and infinite, are no length of about 1.
    length = math.hypot(*struct.unpack(f"<{dim}f", cached.vector))
    if not abs(length - 1) <= UNIT_TOLERANCE or not 0 < cached.norm < math.inf:
        return None
    return Row(cached.vector, cached.norm, cached.numerics)
