from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2_grpc
from siglip.v1 import embedding_pb2_grpc, model_pb2_grpc, zero_shot_pb2_grpc

from broker import EmbeddedServer
from gateway import server
from gateway.served import ServedModel
from siglip_settings import GatewaySettings
from tests.gateway.rig import FakeWorker
from tests.support.checkpoints import write_tiny_checkpoint


@dataclass
class Served:
    """A gateway in this process and a client of it."""

    gateway: server.Gateway
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.embedding = embedding_pb2_grpc.EmbeddingServiceStub(self.channel)
        self.zero_shot = zero_shot_pb2_grpc.ZeroShotServiceStub(self.channel)
        self.model = model_pb2_grpc.ModelServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    @property
    def served(self) -> ServedModel:
        return self.gateway.parts.model


Start = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(scope="session")
def valkey(queue_server: str) -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as queue:
        yield queue


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def settings(valkey: EmbeddedServer, checkpoint: Path) -> GatewaySettings:
    return settings_for(checkpoint, valkey.url)


def settings_for(checkpoint: Path, redis_url: str | None, **changed: Any) -> GatewaySettings:
    given = {
        "listen": "127.0.0.1:0",
        "drain_timeout_s": 5.0,
        "decode_processes": 1,
        "canary_interval_s": 0,
        # Tests send the same things again and again, and look at what is computed.
        "cache_bytes": 0,
    } | changed
    return GatewaySettings(model=str(checkpoint), redis_url=redis_url, **given)


@asynccontextmanager
async def serving(settings: GatewaySettings) -> AsyncIterator[Served]:
    gateway = await server.start(settings)
    try:
        # A pool of its own: a port that was tried before may be in backoff for every channel.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options) as channel:
            yield Served(gateway, channel)
    finally:
        await gateway.stop(0)


@pytest.fixture(scope="session")
def start(valkey: EmbeddedServer, checkpoint: Path) -> Start:
    """Starts another gateway on the same queue, with some settings changed."""
    return lambda **changed: serving(
        settings_for(changed.pop("model", checkpoint), changed.pop("redis_url", valkey.url), **changed)
    )


@pytest.fixture(scope="session")
def workers(settings: GatewaySettings) -> Iterator[dict[str, FakeWorker]]:
    """A text and a vision worker."""
    model = ServedModel.load(settings)
    assert settings.redis_url
    both = {tower: FakeWorker(settings.redis_url, model, tower) for tower in ("text", "vision")}
    yield both
    for worker in both.values():
        worker.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(settings: GatewaySettings, workers: dict[str, FakeWorker]) -> AsyncIterator[Served]:
    """A gateway with both workers, shared by all tests."""
    async with serving(settings) as served:
        yield served


@pytest.fixture
def text_worker(workers: dict[str, FakeWorker]) -> Iterator[FakeWorker]:
    yield from _fresh(workers["text"])


@pytest.fixture
def vision_worker(workers: dict[str, FakeWorker]) -> Iterator[FakeWorker]:
    yield from _fresh(workers["vision"])


def _fresh(worker: FakeWorker) -> Iterator[FakeWorker]:
    worker.rows.clear()
    yield worker
    worker.failing.clear()
    worker.resume()
