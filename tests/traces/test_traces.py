"""One trace of a call, over a gateway and real workers, as a collector sees it."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from siglip.v1 import embedding_pb2, zero_shot_pb2

import siglip_traces.spans
from broker import EmbeddedServer, Row
from gateway import server
from gateway.errors import StartError
from gateway.served import ServedModel
from siglip_cli.logs import JsonLines
from siglip_traces import start_traces
from tests.gateway.conftest import Served, serving, settings_for
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.collector import Collector, Seen, collecting
from tests.support.slow_model import slow_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "a private sentence"
BATCH_S = 0.02
CLASSIFY = "siglip.v1.ZeroShotService/Classify"
EMBED = "siglip.v1.EmbeddingService/EmbedTexts"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "traced")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Every process sends its spans to it at once."""
    with collecting() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture(scope="module")
def queue(checkpoint: Path, collector: Collector) -> Iterator[str]:
    """A queue with a worker process for texts that sends spans, and a stand-in for pictures that does not."""
    traced: Any = {"batch_s": BATCH_S, "traces_endpoint": collector.url}
    with EmbeddedServer() as valkey, slow_worker("text", checkpoint, valkey.url, **traced):
        vision = FakeWorker(valkey.url, ServedModel.load(settings_for(checkpoint, None)), "vision")
        yield valkey.url
        vision.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(checkpoint: Path, queue: str, collector: Collector) -> AsyncIterator[Served]:
    async with serving(settings_for(checkpoint, queue, traces_endpoint=collector.url)) as served:
        await until(lambda: all(served.gateway.parts.broker.live_workers().values()), within_s=30)
        yield served


async def traced(collector: Collector, trace_id: str, names: set[str]) -> dict[str, Seen]:
    """The spans of one trace, by name, once all of these have arrived."""

    def found() -> dict[str, Seen]:
        return {span.name: span for span in list(collector.spans) if span.trace_id == trace_id}

    await until(lambda: names <= found().keys())
    return found()


async def test_one_call_is_one_trace_across_the_processes(service: Served, collector: Collector) -> None:
    request = zero_shot_pb2.ClassifyRequest(images=[picture(1)], labels=[SECRET, "b"])
    metadata = [
        ("traceparent", f"00-{TRACE}-{SPAN}-01"),
        ("tracestate", "vendor=1"),
        ("x-request-id", "id-7"),
    ]
    await service.zero_shot.Classify(request, metadata=metadata)
    of_gateway = {"decode text", "decode vision", "queue text", "queue vision", "score"}
    of_worker = ["wait", "compute", "reply"]
    spans = await traced(collector, TRACE, {CLASSIFY, *of_gateway, *of_worker})
    call = spans[CLASSIFY]
    assert (call.service, call.parent_id) == ("siglip-gateway", SPAN)
    assert call.attributes["siglip.items"] == 1
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert {name for name, span in spans.items() if span.parent_id == call.span_id} == of_gateway
    waiting, wait, compute, reply = (spans[name] for name in ("queue text", *of_worker))
    for span in (wait, compute, reply):
        assert (span.service, span.parent_id) == ("siglip-text-worker", waiting.span_id)
        assert span.attributes["siglip.batch.rows"] == 2
    assert waiting.start_ns - 5_000_000 <= wait.start_ns <= wait.end_ns == compute.start_ns
    assert compute.end_ns - compute.start_ns >= BATCH_S * 1e9
    assert compute.end_ns == reply.start_ns <= waiting.end_ns <= call.end_ns
    assert {span.state for span in spans.values()} == {"vendor=1"}
    assert not any(span.failed for span in spans.values())
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    assert not [body for _, body in collector.requests if SECRET.encode() in body]


async def test_a_malformed_traceparent_begins_a_new_trace(service: Served, collector: Collector) -> None:
    metadata = [("traceparent", "00-nonsense"), ("tracestate", "x"), ("x-request-id", "malformed")]
    await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=["a"]), metadata=metadata)
    await until(lambda: [s for s in collector.spans if s.attributes.get("siglip.request_id") == "malformed"])
    (call,) = [s for s in collector.spans if s.attributes.get("siglip.request_id") == "malformed"]
    assert call.parent_id == "" and call.state == ""
    await traced(collector, call.trace_id, {"queue text", "compute"})


async def test_a_caller_that_does_not_trace_is_not_traced(
    service: Served, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request = embedding_pb2.EmbedTextsRequest(texts=["a"])
    await service.embedding.EmbedTexts(request, metadata=[("traceparent", f"00-{'1' * 32}-{SPAN}-00")])
    await service.embedding.EmbedTexts(request, metadata=[("traceparent", f"00-{'2' * 32}-{SPAN}-01")])
    await traced(collector, "2" * 32, {"compute", EMBED})
    assert not [span for span in collector.spans if span.trace_id == "1" * 32]
    assert "1" * 32 not in caplog.text


async def test_a_malformed_context_in_a_header_costs_nothing(service: Served, collector: Collector) -> None:
    parts = service.gateway.parts
    row, shape = bytes(4 * parts.model.text_length), (parts.model.text_length,)
    unsampled, sampled = (f"00-{digit * 32}-{SPAN}-0{flag}" for digit, flag in (("5", 0), ("6", 1)))
    for context in ("nonsense", sampled[:-1], "x" * 2000, "\0", unsampled, sampled + " broken", sampled):
        answer = await parts.broker.embed("text", [row], shape, "int32", deadline_s=10, trace_context=context)
        assert isinstance(answer.rows[0], Row)
    await until(lambda: sum((s.name, s.trace_id) == ("reply", "6" * 32) for s in collector.spans) == 2)
    assert all(span.parent_id for span in collector.spans if span.service == "siglip-text-worker")
    assert not [span for span in collector.spans if span.trace_id == "5" * 32]


async def test_a_call_that_ran_out_of_time_shows_where(service: Served, collector: Collector) -> None:
    request = embedding_pb2.EmbedTextsRequest(texts=["a"])
    metadata = [("traceparent", f"00-{'3' * 32}-{SPAN}-01")]
    error = await refused(service.embedding.EmbedTexts(request, metadata=metadata, timeout=0.01))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    spans = await traced(collector, "3" * 32, {"queue text", EMBED})
    assert spans["queue text"].failed in ("CancelledError", "DeadlineExceeded")
    assert spans[EMBED].failed == spans[EMBED].attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_a_log_line_names_its_trace(service: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metadata = [("traceparent", f"00-{'4' * 32}-{SPAN}-01"), ("x-request-id", "logged")]
    await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=[SECRET]), metadata=metadata)
    (record,) = [record for record in caplog.records if "request_id=logged" in record.message]
    assert f"trace_id={'4' * 32}" in record.message
    line = json.loads(JsonLines("gateway").format(record))
    assert (line["trace_id"], line["request_id"], line["code"]) == ("4" * 32, "logged", "OK")
    assert SECRET not in caplog.text


async def test_a_collector_that_hangs_costs_neither_time_nor_calls(
    checkpoint: Path, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siglip_traces.spans, "CLOSE_TIMEOUT_S", 0.3)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    request = embedding_pb2.EmbedTextsRequest(texts=["a"])
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings = settings_for(checkpoint, queue, traces_endpoint=endpoint)
        gateway = await server.start(settings)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            served = Served(gateway, channel)
            await until(lambda: gateway.parts.broker.live_workers()["text"])
            begun = time.monotonic()
            answers = [served.embedding.EmbedTexts(request) for _ in range(200)]
            assert len(await asyncio.gather(*answers)) == 200
            # By now more spans have been dropped than there is room for; 25 batches take half a second.
            assert time.monotonic() - begun < 3
        begun = time.monotonic()
        await gateway.stop(0)
        assert time.monotonic() - begun < 2


async def test_a_collector_that_refuses_is_told_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    traces = start_traces("gateway", collector.url, 1.0)
    assert traces
    for status, told in ((400, 1), (400, 1), (200, 2), (400, 3)):
        collector.status, before = status, len(collector.requests)
        span = traces.begin("a call", None, None, {})
        assert span
        span.end({})
        await until(lambda before=before: len(collector.requests) > before)
        await until(lambda told=told: len(caplog.records) == told)
    collector.status = 200
    await asyncio.to_thread(traces.close)
    assert "takes spans again" in caplog.records[1].message


@pytest.mark.parametrize("endpoint", ["localhost:4318", "http://", "ftp://h:1", "http://h:99999", "nonsense"])
async def test_an_unusable_endpoint_is_one_clear_line(checkpoint: Path, queue: str, endpoint: str) -> None:
    with pytest.raises(StartError, match="--traces-endpoint must be http://host:port"):
        await server.start(settings_for(checkpoint, queue, traces_endpoint=endpoint))


async def test_without_the_extra_the_start_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from siglip_traces import TracesError, start_traces\n"
        "assert start_traces('gateway', None, 1.0) is None\n"
        "try: start_traces('gateway', 'http://127.0.0.1:1', 1.0)\n"
        "except TracesError as error: print(error)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    said = (await process.communicate())[0].decode()
    assert said == "--traces-endpoint needs OpenTelemetry: pip install 'siglip[traces]'\n"
