"""What lies in Redis: entries, replies and leases, each ours and whole or refused."""

from collections.abc import Iterator

from siglip.broker.v1 import job_pb2

from broker import wire
from broker.jobs import DTYPE_OF, Tower, Work, WorkerInfo
from broker.keys import HEADER_FIELD, PAYLOAD_FIELD

FINGERPRINT = "f" * 16
ID = b"0123456789abcdef"
MAX_ROWS = 64
SHAPES: dict[Tower, tuple[int, ...]] = {"text": (2, 4), "vision": (1, 3, 2, 2)}


def seeds() -> Iterator[bytes]:
    for tower, shape in SHAPES.items():
        header = wire.pack_header(
            job_id=ID,
            gateway_id="gw-0123456789abcdef",
            fingerprint=FINGERPRINT,
            dtype=DTYPE_OF[tower],
            shape=shape,
            deadline_ms=1_800_000_000_000,
        )
        payload = bytes(32 if tower == "text" else 12)
        yield bytes([len(header)]) + header + payload
    rows = job_pb2.RowsReply(vectors=bytes(16), norms=bytes(8), dim=2)
    yield b"\0" + wire.pack_replies([job_pb2.JobReply(job_id=ID, rows=rows, queue_us=1)])
    yield b"\0" + wire.pack_lease(WorkerInfo("w", "text", "cpu", "float32", "sdpa", FINGERPRINT), Work())


def check(data: bytes) -> None:
    cut = data[0] + 1 if data else 0
    for tower in SHAPES:
        check_entry(tower, data[1:cut], data[cut:])
    wire.unpack_lease(data[1:])
    try:
        replies = wire.unpack_replies(data[1:])
    except ValueError:
        return
    for reply in replies:
        check_reply(reply)


def check_entry(tower: Tower, header: bytes, payload: bytes) -> None:
    fields = {HEADER_FIELD: header, PAYLOAD_FIELD: payload}
    try:
        job = wire.unpack_entry("s", b"1-0", fields, tower=tower, fingerprint=FINGERPRINT)
    except wire.InvalidEntry:
        return
    assert job.dtype == DTYPE_OF[tower] and 1 <= job.rows <= MAX_ROWS
    assert job.rows * job.row_bytes == len(job.payload)


def check_reply(reply: job_pb2.JobReply) -> None:
    for rows in (1, 2):
        try:
            answered = wire.rows_of(reply, rows)
        except ValueError:
            continue
        assert len(answered) == rows
