"""Start, health, stop: what an operator and an orchestrator see."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from siglip.v1 import embedding_pb2, embedding_pb2_grpc

from broker import EmbeddedServer
from gateway import server
from gateway.errors import StartError
from siglip_settings import GatewaySettings
from tests.gateway.conftest import Served, Start, serving, settings_for
from tests.gateway.rig import FakeWorker, refused, until
from tests.support.checkpoints import write_tiny_checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
SERVICES = (
    "",
    "siglip.v1.EmbeddingService",
    "siglip.v1.ZeroShotService",
    "siglip.v1.ModelService",
    "liveness",
)
TEXTS = embedding_pb2.EmbedTextsRequest(texts=["a cat"])


async def statuses(service: Served) -> dict[str, bool]:
    """Which names are serving."""
    checks = {name: service.health.Check(health_pb2.HealthCheckRequest(service=name)) for name in SERVICES}
    return {
        name: (await check).status == health_pb2.HealthCheckResponse.SERVING for name, check in checks.items()
    }


async def until_serving(service: Served, *names: str) -> None:
    async def as_expected() -> bool:
        return {name for name, serving in (await statuses(service)).items() if serving} == set(names)

    await until(as_expected)


async def test_health_follows_the_workers(tmp_path: Path, valkey: EmbeddedServer) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "followed", seed=3)
    async with serving(settings_for(checkpoint, valkey.url)) as service:
        await until_serving(service, "siglip.v1.ModelService", "liveness")
        text = FakeWorker(valkey.url, service.served, "text")
        try:
            # One tower of two: nothing that needs both is ready.
            async def text_seen() -> bool:
                return bool(await service.gateway.parts.broker.workers("text"))

            await until(text_seen)
            await until_serving(service, "siglip.v1.ModelService", "liveness")
            vision = FakeWorker(valkey.url, service.served, "vision")
            await until_serving(service, *SERVICES)
            vision.stop()
            await until_serving(service, "siglip.v1.ModelService", "liveness")
        finally:
            text.stop()


async def test_health_of_a_text_only_deployment(start: Start, workers: dict[str, FakeWorker]) -> None:
    async with start(towers="text") as service:
        await until_serving(service, "", "siglip.v1.EmbeddingService", "siglip.v1.ModelService", "liveness")


async def test_health_when_the_queue_goes_away(checkpoint: Path) -> None:
    with EmbeddedServer() as queue:
        async with serving(settings_for(checkpoint, queue.url)) as service:
            await until_serving(service, "siglip.v1.ModelService", "liveness")
            queue.stop()
            await until_serving(service, "liveness")


async def test_health_goes_on_after_a_defect(
    start: Start,
    workers: dict[str, FakeWorker],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> None:
        raise LookupError("nobody foresaw this")

    async with start() as service:
        await until_serving(service, *SERVICES)
        with monkeypatch.context() as patched:
            patched.setattr(service.gateway.health, "refresh", broken)
            await until_serving(service, "liveness")
        await until_serving(service, *SERVICES)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["health cannot be told"]


async def test_watch_tells_of_changes_to_every_watcher(start: Start, workers: dict[str, FakeWorker]) -> None:
    async with start() as service:
        request = health_pb2.HealthCheckRequest(service="siglip.v1.ZeroShotService")
        leaver, stayer = service.health.Watch(request), service.health.Watch(request)
        for watch in (leaver, stayer):
            while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass
        leaver.cancel()
        service.gateway.health.stop()
        assert (await stayer.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await stayer.read() is grpc.aio.EOF


async def test_health_of_an_unknown_name(service: Served) -> None:
    request = health_pb2.HealthCheckRequest(service="siglip.v1.Other")
    assert (await refused(service.health.Check(request))).code.name == "NOT_FOUND"
    watch = service.health.Watch(request)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_reflection_lists_the_services(service: Served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = [reply async for reply in stub.ServerReflectionInfo(iter([ask]))]
    names = {listed.name for listed in reply.list_services_response.service}
    assert names >= {*SERVICES[1:4], "grpc.health.v1.Health"}


@pytest.mark.fault(6)
async def test_draining_answers_what_was_accepted_and_nothing_more(
    start: Start, text_worker: FakeWorker
) -> None:
    async with start() as service:
        watch = service.health.Watch(health_pb2.HealthCheckRequest(service="liveness"))
        await watch.read()
        text_worker.pause()
        accepted = asyncio.ensure_future(service.embedding.EmbedTexts(TEXTS))

        async def queued() -> bool:
            return await service.gateway.parts.broker.depth("text") == 1

        await until(queued)
        stopping = asyncio.ensure_future(service.gateway.stop(10))
        await asyncio.sleep(0)
        late = await refused(service.embedding.EmbedTexts(TEXTS))
        assert (late.code.name, late.reason) == ("UNAVAILABLE", "STOPPING")
        assert late.trailers["grpc-retry-pushback-ms"] == "1000"
        assert not stopping.done()
        text_worker.resume()
        assert (await accepted).results[0].HasField("embedding")
        # A watcher of health does not hold the drain up.
        await asyncio.wait_for(stopping, 5)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists connections there")
async def test_connections_are_renewed_and_no_call_notices(
    start: Start, workers: dict[str, FakeWorker]
) -> None:
    """A bare stub, which does not try again."""
    async with start(max_connection_age_s=0.2) as served:
        seen, began_s = set[str](), time.monotonic()
        connected = served.channel.unary_unary("/siglip.v1.EmbeddingService/EmbedTexts")
        while len(seen) < 3:
            assert time.monotonic() - began_s < 20
            await asyncio.gather(*(connected(TEXTS.SerializeToString()) for _ in range(8)))
            await served.embedding.EmbedTexts(TEXTS)
            seen |= peers_of(served.gateway.port)


def peers_of(port: int) -> set[str]:
    """Ports of the clients that are connected to this one."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]  # gRPC listens on sockets of both kinds
    rows = [line.split()[1:4] for table in tables for line in table.read_text().splitlines()[1:]]
    return {there for here, there, state in rows if here.endswith(f":{port:04X}") and state == "01"}


async def test_a_used_port_is_one_clear_line(
    service: Served, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StartError) as error:
        async with start(listen=f"127.0.0.1:{service.gateway.port}"):
            pass
    assert f"127.0.0.1:{service.gateway.port}" in str(error.value)
    assert "Address already in use" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


async def test_a_unix_socket(
    tmp_path: Path, settings: GatewaySettings, workers: dict[str, FakeWorker]
) -> None:
    listen = f"unix:{tmp_path}/gateway.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(f"{tmp_path}/gateway.sock")  # its file stays
    gateway = await server.start(replace(settings, listen=listen))
    try:
        assert gateway.port == 0
        async with grpc.aio.insecure_channel(listen) as channel:
            stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
            assert (await stub.EmbedTexts(TEXTS)).results[0].HasField("embedding")
        with pytest.raises(StartError, match="a server is using it"):
            await server.start(replace(settings, listen=listen))
    finally:
        await gateway.stop(0)


@pytest.mark.parametrize(
    "listen", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "no.such.host.invalid:1", "203.0.113.7:0"]
)
async def test_an_address_that_cannot_be_is_one_clear_line(start: Start, listen: str) -> None:
    with pytest.raises(StartError) as error:
        async with start(listen=listen):
            pass
    assert listen in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "SIGLIP_REDIS_URL"),
        ("unix:///no/such.sock", "/no/such.sock"),
        ("redis://127.0.0.1:1", "127.0.0.1:1"),
        ("http://127.0.0.1", "redis://"),
    ],
)
async def test_a_wrong_redis_url_is_one_clear_line(start: Start, url: str | None, words: str) -> None:
    with pytest.raises(StartError) as error:
        async with start(redis_url=url):
            pass
    assert words in str(error.value) and "\n" not in str(error.value)


async def test_a_password_in_the_url_is_not_shown(start: Start) -> None:
    with pytest.raises(StartError) as error:
        async with start(redis_url="redis://user:hush@127.0.0.1:1"):
            pass
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("lacking", ["config.json", "spiece.model", "model.safetensors"])
async def test_an_incomplete_checkpoint_is_one_clear_line(
    tmp_path: Path, valkey: EmbeddedServer, lacking: str
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "partial")
    (folder / lacking).unlink()
    with pytest.raises(StartError) as error:
        await server.start(settings_for(folder, valkey.url))
    assert lacking in str(error.value) and "\n" not in str(error.value)


SERVE = """
import asyncio, logging, sys
from gateway.server import serve
from siglip_settings import GatewaySettings
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
model, url, listen = sys.argv[1:]
asyncio.run(serve(GatewaySettings(model=model, redis_url=url, listen=listen)))
heavy = ("torch", "transformers", "workers", "opentelemetry.sdk.trace")
print("ended", *(name for name in heavy if name in sys.modules), flush=True)
"""


@contextmanager
def gateway_process(checkpoint: Path, url: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(checkpoint), url, f"127.0.0.1:{port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        try:
            read_until(process, "serving 'tiny'")
            yield process, port
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    """Reads lines up to the one that holds `words`."""
    assert process.stdout
    while words not in (line := process.stdout.readline()):
        assert line, f"the process ended without {words!r}"


@pytest.mark.fault(6)
@pytest.mark.parametrize("workers_alive", [True, False])
async def test_signals_end_the_process_in_order(
    checkpoint: Path, valkey: EmbeddedServer, text_worker: FakeWorker, workers_alive: bool
) -> None:
    """The first SIGTERM drains; when the work does not end, a second one does not wait for it."""
    with gateway_process(checkpoint, valkey.url) as (process, port):
        text_worker.pause()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
            accepted = asyncio.ensure_future(stub.EmbedTexts(TEXTS, wait_for_ready=True))
            await asyncio.sleep(0)
            await until(lambda: channel.get_state() is grpc.ChannelConnectivity.READY)
            await until(lambda: _depth(valkey) == 1)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(read_until, process, "draining")
            if workers_alive:
                text_worker.resume()
                assert (await accepted).results[0].HasField("embedding")
            else:
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert (await refused(accepted)).code.name in ("UNAVAILABLE", "CANCELLED")
                assert time.monotonic() - begun < 5
        assert process.stdout
        last_line = (await asyncio.to_thread(process.stdout.read)).splitlines()[-1]
        # Heavy libraries that were loaded would follow the word.
        assert last_line == "ended"
        assert process.wait(10) == 0


def _depth(valkey: EmbeddedServer) -> int:
    """Entries in the text streams, asked directly."""
    with redis.Redis.from_url(valkey.url) as client:
        return sum(int(client.xlen(key)) for key in client.scan_iter("*:requests:text:*"))
