"""Readiness rests on vectors that came all the way, not on leases."""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from broker import Answer, DeadlineExceeded, EmbeddedServer, QueueFull, Row
from gateway import canary as canary_module
from gateway.canary import REMEMBERED, Canary
from gateway.served import ServedModel
from siglip_model.golden import distance, write_golden
from siglip_settings import GatewaySettings
from tests.broker.waiting import until
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.slow_model import vector_of

pytestmark = pytest.mark.asyncio(loop_scope="session")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
TOWERS = ("text", "vision")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the vectors that the stand-in workers give."""
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("own") / "tiny", seed=77)
    model = ServedModel.load(GatewaySettings(model=str(folder)))
    write_golden(folder, {t: vector_of(model.canary_row(t)[0], model.embedding_dim)[0] for t in TOWERS})  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def own_workers(own: Path, valkey: EmbeddedServer) -> Iterator[dict[str, FakeWorker]]:
    model = ServedModel.load(GatewaySettings(model=str(own)))
    both = {tower: FakeWorker(valkey.url, model, tower) for tower in TOWERS}
    yield both
    for worker in both.values():
        worker.stop()


async def status(served: Served, service: str = "") -> int:
    return int((await served.health.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def becomes(served: Served, wanted: int, service: str = "") -> None:
    async with asyncio.timeout(20):
        while await status(served, service) != wanted:  # noqa: ASYNC110 (seen through gRPC)
            await asyncio.sleep(0.01)


async def test_ready_when_both_towers_gave_their_vectors(
    start: Start, own: Path, own_workers: dict[str, FakeWorker]
) -> None:
    async with start(model=own, canary_interval_s=0.1) as served:
        await becomes(served, SERVING)
        rows = {tower: served.served.canary_row(tower)[0] for tower in TOWERS}  # type: ignore[arg-type]
        await until(lambda: all(rows[tower] in own_workers[tower].rows for tower in TOWERS))


async def test_a_worker_that_fails_and_recovers(
    start: Start, own: Path, own_workers: dict[str, FakeWorker], caplog: pytest.LogCaptureFixture
) -> None:
    async with start(model=own, canary_interval_s=0.05) as served:
        await becomes(served, SERVING)
        row = served.served.canary_row("vision")[0]
        own_workers["vision"].failing.add(row)
        await becomes(served, NOT_SERVING)
        assert "the vision tower of 'tiny' fails its canary: RuntimeError: see /srv/worker.py" in caplog.text
        assert await status(served, "liveness") == SERVING
        assert await status(served, "siglip.v1.ModelService") == SERVING
        own_workers["vision"].failing.clear()
        await becomes(served, SERVING)


async def test_wrong_vectors_are_no_service(
    start: Start,
    own: Path,
    own_workers: dict[str, FakeWorker],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Same name, same weights, but a stored vector that the workers do not give."""
    caplog.set_level(logging.INFO)
    folder = Path(shutil.copytree(own, tmp_path / "tiny"))
    golden = ServedModel.load(GatewaySettings(model=str(folder))).golden
    write_golden(folder, {"text": golden["text"], "vision": -golden["vision"]})
    async with start(model=folder, canary_interval_s=0.05) as served:
        await becomes(served, SERVING, "siglip.v1.ModelService")
        await until(
            lambda: (
                "the vision tower of 'tiny' fails its canary: a wrong vector: 1 - cosine is 2" in caplog.text
            )
        )
        await until(
            lambda: (
                "the text tower of 'tiny' has proved itself" in caplog.text or caplog.set_level(logging.INFO)
            )
        )
        assert await status(served) == NOT_SERVING


async def test_a_worker_that_hangs(
    start: Start,
    own: Path,
    own_workers: dict[str, FakeWorker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canary_module, "TIMEOUT_S", 0.2)
    async with start(model=own, canary_interval_s=0.05) as served:
        await becomes(served, SERVING)
        own_workers["text"].pause()
        await becomes(served, NOT_SERVING)
        own_workers["text"].resume()
        await becomes(served, SERVING)


@dataclass
class Queue:
    """In the broker's place: the vector, or nothing while other work is answered, or no room at all."""

    vector: Any
    silent: bool = False
    full: bool = False
    others: int = 0
    compute_us: int = 0
    sent: list[Any] = field(default_factory=list)

    def answered(self, tower: str) -> int:
        return self.others

    async def embed(self, *arguments: Any, deadline_s: float, caller: str) -> Answer:
        self.sent.append(arguments)
        if self.full:
            raise QueueFull("it holds 5 entries", 1.0)
        if self.silent:
            self.others += 1
            raise DeadlineExceeded("late")
        row = Row(self.vector.astype("<f4").tobytes(), 1.0)
        return Answer([row], len(self.vector), 0, self.compute_us)


async def test_lateness_under_load_is_no_failure_and_change_is(own: Path) -> None:
    model = ServedModel.load(GatewaySettings(model=str(own)))
    model.golden.clear()
    first = np.eye(model.embedding_dim, dtype=np.float32)
    queue = Queue(first[0])
    canary = Canary("text", model, queue, 1.0)  # type: ignore[arg-type]
    queue.silent = True
    await canary.send()
    assert not canary.proved  # never yet
    queue.silent = False
    await canary.send()
    assert canary.proved  # the first answer is the measure
    queue.silent = True
    await canary.send()
    assert canary.proved  # others are answered
    queue.full = True
    await canary.send()
    assert canary.proved  # it was not even sent
    queue.silent, queue.full, queue.vector = False, False, first[1]
    await canary.send()
    assert not canary.proved
    queue.vector = first[0]
    await canary.send()
    assert canary.proved


@pytest.mark.parametrize(("compute_us", "pause_s"), [(5_000, 10), (300_000, 30), (5_000_000, 60)])
async def test_a_slow_tower_is_asked_less_often(own: Path, compute_us: int, pause_s: float) -> None:
    model = ServedModel.load(GatewaySettings(model=str(own)))
    queue = Queue(model.golden["text"])
    queue.compute_us = compute_us
    canary = Canary("text", model, queue, 10.0)  # type: ignore[arg-type]
    assert canary.pause_s == 1
    await canary.send()
    assert canary.proved and canary.pause_s == pytest.approx(pause_s)
    queue.compute_us = 50 * compute_us  # in a batch with rows of others
    await canary.send()
    assert canary.pause_s == pytest.approx(pause_s)
    for _ in range(REMEMBERED):  # the quick worker has gone
        await canary.send()
    assert canary.pause_s == pytest.approx(min(50 * compute_us / 1e4, 60))


async def test_only_a_sound_first_answer_is_the_measure(own: Path) -> None:
    model = ServedModel.load(GatewaySettings(model=str(own)))
    model.golden.clear()
    right, nothing = (
        np.eye(2, model.embedding_dim, dtype=np.float32)[0],
        np.zeros(model.embedding_dim, np.float32),
    )
    queue = Queue(nothing * np.nan)
    canary = Canary("text", model, queue, 1.0)  # type: ignore[arg-type]
    for vector, proved in ((nothing * np.nan, False), (nothing, False), (right, True), (-right, False)):
        queue.vector = vector
        await canary.send()
        assert canary.proved is proved
    canary = Canary("text", model, queue, 1.0)  # type: ignore[arg-type]
    canary._golden = nothing * np.nan
    await canary.send()
    assert not canary.proved  # whatever it is compared with


async def test_distances() -> None:
    a = np.array([1, 0], np.float32)
    assert distance(a, a) == 0
    assert distance(a, np.array([0, 1], np.float32)) == 1
    assert distance(np.array([np.nan, 0], np.float32), a) == 2
    assert distance(np.zeros(3, np.float32), a) == 2
