"""Nothing read from Redis is believed: bad entries, bad replies, repeated replies."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from siglip.broker.v1 import job_pb2

from broker import Answer, EmbeddedServer, FingerprintMismatch, GatewayBroker, Row, RowError, wire
from broker.keys import GROUP, Keys
from tests.broker.conftest import Connect
from tests.broker.entries import OTHER_GATEWAY, add, header
from tests.broker.waiting import until
from tests.support.queue_worker import FINGERPRINT, QueueWorker, start_process, text_row, vector_of
from tests.support.valkey import looking

BAD_ENTRIES = {
    "no fields of ours": {b"x": b"y"},
    "header is noise": {b"h": b"\xff" * 50, b"p": b""},
    "header is too long": {b"h": header() + b"\x00" * 5000, b"p": bytes(64)},
    "header names no gateway": {b"h": header(gateway_id="../../etc"), b"p": bytes(64)},
    "header names another key": {b"h": header(gateway_id="x}:requests:text:batch"), b"p": bytes(64)},
    "job id too short": {b"h": header(job_id=b"12"), b"p": bytes(64)},
}
BAD_JOBS: dict[str, tuple[dict[str, object], str]] = {
    "payload shorter than shape": ({"shape": (2, 16)}, "payload has 64 bytes; shape says 128"),
    "shape beyond all memory": ({"shape": (64, 2**31, 2**31)}, "payload has 64 bytes; shape says"),
    "no axes": ({"shape": ()}, r"shape is \[\]"),
    "no rows": ({"shape": (0, 16)}, "1 to 64 rows"),
    "too many rows": ({"shape": (65, 16)}, "1 to 64 rows"),
    "too many axes": ({"shape": (1, 2, 2, 2, 2)}, "1 to 3 axes"),
    "another tower's dtype": ({"dtype": "uint8"}, "text takes 'int32'"),
    "no dtype at all": ({"dtype": "float99" * 100}, "text takes 'int32'"),
}


@pytest.fixture
def other_gateway(embedded: EmbeddedServer, tag: str, nothing_is_left: None) -> Iterator[str]:
    """The reply stream of a gateway that only listens."""
    key = Keys(tag).replies(OTHER_GATEWAY)
    with looking(embedded.url) as connection:
        connection.xgroup_create(key, GROUP, id="0", mkstream=True)
        yield key
        connection.delete(key)


def replies(url: str, key: str) -> list[job_pb2.JobReply]:
    with looking(url) as connection:
        return [reply for _, fields in connection.xrange(key) for reply in wire.unpack_replies(fields[b"r"])]


@pytest.mark.parametrize("name", BAD_ENTRIES)
async def test_garbage_is_buried_and_its_neighbours_answered(
    embedded: EmbeddedServer, tag: str, connect: Connect, name: str
) -> None:
    gateway = await connect(embedded)
    add(embedded.url, tag, fields=BAD_ENTRIES[name])
    with QueueWorker(embedded.url, tag) as worker:
        answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
    assert answer.rows == [Row(*vector_of(text_row(1)))]
    assert worker.broker.stats["invalid"] == 1
    with looking(embedded.url) as connection:
        ((_, letter),) = connection.xrange(Keys(tag).dead_letters("text"))
        connection.delete(Keys(tag).dead_letters("text"))
    assert letter[b"reason"] == b"INVALID_JOB"
    assert len(letter[b"h"]) <= 4096


async def test_a_reply_that_has_no_place_is_dropped_and_its_neighbours_arrive(
    embedded: EmbeddedServer, tag: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await connect(embedded)
    key = Keys(tag).replies(OTHER_GATEWAY)
    with looking(embedded.url) as connection:
        connection.set(key, "no stream")
        add(embedded.url, tag, fields={b"h": header(), b"p": text_row(2)})
        call = asyncio.create_task(gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10))
        await until(lambda: connection.xlen(Keys(tag).requests("text", "interactive")) == 2)
        with QueueWorker(embedded.url, tag):
            assert (await call).rows == [Row(*vector_of(text_row(1)))]
        connection.delete(key)
    assert f"a reply to {OTHER_GATEWAY} is dropped: WRONGTYPE" in caplog.text


@pytest.mark.parametrize("name", BAD_JOBS)
async def test_what_a_worker_cannot_run_is_refused_with_its_reason(
    embedded: EmbeddedServer, tag: str, other_gateway: str, name: str
) -> None:
    changed, message = BAD_JOBS[name]
    add(embedded.url, tag, fields={b"h": header(**changed), b"p": bytes(64)})
    with QueueWorker(embedded.url, tag) as worker:
        await until(lambda: replies(embedded.url, other_gateway))
    (reply,) = replies(embedded.url, other_gateway)
    assert reply.error.reason == "INVALID_JOB"
    assert re.search(message, reply.error.message)
    assert worker.jobs == []


@pytest.mark.parametrize(("given", "read"), [("00-abc", "00-abc"), ("x" * 641, "")])
async def test_the_context_of_a_trace_is_bounded(given: str, read: str) -> None:
    newer = job_pb2.JobHeader.FromString(header())
    newer.trace_context = given
    fields = {b"h": newer.SerializeToString(), b"p": bytes(64)}
    job = wire.unpack_entry("s", b"1-0", fields, tower="text", fingerprint=FINGERPRINT)
    assert job.trace_context == read
    assert len(header(trace_context=given)) == len(header(trace_context=read))


@pytest.mark.fault(17)
async def test_a_gateway_of_another_version_is_told_so(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls end at once, those of its neighbour are answered."""
    gateway = await connect(embedded)
    worker = start_process(embedded.url, tag)
    try:
        with monkeypatch.context() as newer:
            newer.setattr(wire, "VERSION", 2)
            answer = await gateway.embed("text", [text_row(1)] * 3, (16,), "int32", deadline_s=10)
        for error in answer.rows:
            assert isinstance(error, RowError) and error.reason == "INVALID_JOB"
            assert "version is 2; this worker speaks 1" in error.message
        answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
        assert answer.rows == [Row(*vector_of(text_row(1)))]
    finally:
        worker.terminate()
        worker.wait()


@pytest.mark.fault(17)
async def test_another_version_is_refused(embedded: EmbeddedServer, tag: str, other_gateway: str) -> None:
    newer = job_pb2.JobHeader.FromString(header())
    newer.version = 2
    add(embedded.url, tag, fields={b"h": newer.SerializeToString(), b"p": bytes(64)})
    with QueueWorker(embedded.url, tag):
        await until(lambda: replies(embedded.url, other_gateway))
    (reply,) = replies(embedded.url, other_gateway)
    assert "version is 2; this worker speaks 1" in reply.error.message


async def test_other_weights_are_refused_loudly(
    embedded: EmbeddedServer, tag: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await connect(embedded)
    message = f"gateway serves '{FINGERPRINT}', this worker 'other'"
    with (
        QueueWorker(embedded.url, tag, fingerprint="other") as worker,
        pytest.raises(FingerprintMismatch, match=message),
    ):
        await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
    assert worker.jobs == []
    assert "FINGERPRINT_MISMATCH" in caplog.text


@pytest.mark.parametrize("mark", [b"\xff", b"", b"1.5", b"9" * 5000, b"-1", b"64", ["a", "list"]])
async def test_a_mark_that_names_no_row_condemns_no_single_one(
    embedded: EmbeddedServer, tag: str, connect: Connect, mark: bytes | list[str]
) -> None:
    gateway = await connect(embedded)
    call = await _sent(gateway, rows=2)
    (entry,) = gateway._held.entries.values()
    assert entry.entry_id
    key = Keys(tag).running_row(entry.stream, entry.entry_id)
    with looking(embedded.url) as connection:
        connection.xreadgroup(GROUP, "dead", {entry.stream: ">"})
        connection.xclaim(entry.stream, GROUP, "dead", 0, [entry.entry_id], retrycount=3)
        connection.set(key, mark) if isinstance(mark, bytes) else connection.rpush(key, *mark)
    with QueueWorker(embedded.url, tag):
        rows = (await call).rows
        assert (await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)).rows
    assert [row.reason for row in rows if isinstance(row, RowError)] == ["POISON_QUARANTINED"] * 2
    with looking(embedded.url) as connection:
        connection.delete(Keys(tag).dead_letters("text"))


async def test_a_deadline_beyond_all_time_stops_no_quarantine(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    stream = Keys(tag).requests("text", "interactive")
    gateway = await connect(embedded)
    entry_id = add(embedded.url, tag, rows=2, deadline_ms=2**64 - 1)
    with looking(embedded.url) as connection:
        connection.xreadgroup(GROUP, "dead", {stream: ">"})
        connection.xclaim(stream, GROUP, "dead", 0, [entry_id], retrycount=2)
        with QueueWorker(embedded.url, tag) as worker:
            await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
            await until(lambda: connection.xlen(stream) == 0)
    assert sum(job.quarantined for job in worker.jobs) == 2


async def test_a_stranger_in_the_group_disturbs_nobody(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = await _sent(gateway)
    (entry,) = gateway._held.entries.values()
    with looking(embedded.url) as connection:
        connection.xreadgroup(GROUP, b"\xff\xfe", {entry.stream: ">"})  # type: ignore[arg-type]
    with QueueWorker(embedded.url, tag) as worker:
        assert (await call).rows == [Row(*vector_of(text_row(1)))]
        await until(lambda: gateway._held.workers["text"])
    assert gateway.outage is None
    assert worker.broker.stats["reclaimed"] == 1


@pytest.mark.fault(13)
async def test_a_repeated_reply_and_a_strangers_are_ignored(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = await _sent(gateway)
    (entry,) = gateway._held.entries.values()
    rows = job_pb2.RowsReply(vectors=bytes(16), norms=bytes(4), dim=4)
    right = job_pb2.JobReply(job_id=entry.job_id, rows=rows)
    strange = job_pb2.JobReply(job_id=bytes(16), rows=rows)
    for batch in ([strange], [right, right], [right]):
        _put(embedded.url, tag, gateway, wire.pack_replies(batch))
    assert (await call).rows == [Row(bytes(16), 0.0)]
    await until(lambda: gateway.stats["duplicates"] == 3)


async def _sent(gateway: GatewayBroker, rows: int = 1) -> "asyncio.Task[Answer]":
    embedding = gateway.embed("text", [text_row(1)] * rows, (16,), "int32", deadline_s=10)
    call = asyncio.create_task(embedding)
    await until(lambda: any(entry.entry_id for entry in gateway._held.entries.values()))
    return call


def _put(url: str, tag: str, gateway: GatewayBroker, value: bytes) -> None:
    """A worker's reply; the entry is ended by hand."""
    with looking(url) as connection:
        connection.xadd(Keys(tag).replies(gateway.gateway_id), {b"r": value})
        connection.xtrim(Keys(tag).requests("text", "interactive"), maxlen=0, approximate=False)


async def test_noise_in_the_reply_stream_is_skipped(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    _put(embedded.url, tag, gateway, b"\xff" * 100)
    with QueueWorker(embedded.url, tag):
        await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
    assert gateway.stats["unreadable_replies"] == 1


@pytest.mark.parametrize(
    "rows",
    [
        job_pb2.RowsReply(),
        job_pb2.RowsReply(vectors=bytes(15), norms=bytes(4), dim=4),
        job_pb2.RowsReply(vectors=bytes(16), norms=bytes(3), dim=4),
        job_pb2.RowsReply(vectors=bytes(32), norms=bytes(8), dim=4),
        job_pb2.RowsReply(norms=bytes(4), errors=[job_pb2.RowError(row=7)]),
    ],
)
async def test_a_reply_of_the_wrong_size_fails_its_rows(
    embedded: EmbeddedServer, tag: str, connect: Connect, rows: job_pb2.RowsReply
) -> None:
    gateway = await connect(embedded)
    call = await _sent(gateway)
    (entry,) = gateway._held.entries.values()
    reply = job_pb2.JobReply(job_id=entry.job_id, rows=rows)
    _put(embedded.url, tag, gateway, wire.pack_replies([reply]))
    (error,) = (await call).rows
    assert isinstance(error, RowError)
    assert (error.reason, error.retryable) == ("INVALID_REPLY", True)


async def test_of_a_row_without_vector_only_its_error_is_read(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = await _sent(gateway)
    (entry,) = gateway._held.entries.values()
    rows = job_pb2.RowsReply(norms=bytes(3), errors=[job_pb2.RowError(row=0, reason="COMPUTE_FAILED")])
    reply = job_pb2.JobReply(job_id=entry.job_id, rows=rows)
    _put(embedded.url, tag, gateway, wire.pack_replies([reply]))
    assert (await call).rows == [RowError("COMPUTE_FAILED", "", retryable=False)]
