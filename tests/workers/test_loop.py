"""The threads of a worker between a real queue and a tower that can be held."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from broker import DeadlineExceeded, EmbeddedServer
from siglip_settings import WorkerSettings
from tests.support.slow_model import NOT_FINITE, RAISES, SlowTower, special_row
from tests.workers.queue_end import (
    DIM,
    TEXT_SHAPE,
    assert_right,
    embed,
    gateway_end,
    left_in,
    text_rows,
    until,
)
from workers.batch import RowDtype, Rows, Vectors
from workers.compute import Computer
from workers.connect import connect
from workers.errors import DeviceLost
from workers.loop import Loop
from workers.metrics import Metrics


@dataclass
class HeldTower:
    """A stand-in whose runs wait for `go`, and are counted when they begin."""

    row_shape: tuple[int, ...] = TEXT_SHAPE
    dtype: RowDtype = "int32"
    dim: int = DIM
    broken: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    runs: list[int] = field(default_factory=list)

    def run(self, rows: Rows) -> Vectors:
        self.runs.append(len(rows))
        assert self.go.wait(20)
        if self.broken:
            raise RuntimeError("device-side assert triggered")
        return SlowTower(self.row_shape, self.dtype, self.dim).run(rows)


@dataclass
class Running:
    tower: HeldTower
    loop: Loop
    computer: Computer
    ended: list[Exception | None]


@contextmanager
def running(
    valkey: EmbeddedServer, checkpoint: Path, tower: HeldTower | None = None, max_rows: int = 8
) -> Iterator[Running]:
    settings = WorkerSettings(model=str(checkpoint), tower="text", redis_url=valkey.url)
    broker = connect(settings, checkpoint, device="cpu", dtype="float32", attention="eager")
    ended: list[Exception | None] = []
    tower = tower or HeldTower()
    computer = Computer(tower, max_rows, broker.progress)
    loop = Loop(broker, computer, Metrics(CollectorRegistry()), ended.append)
    loop.start()
    try:
        yield Running(tower, loop, computer, ended)
    finally:
        tower.go.set()
        loop.stop()
        broker.close()


async def test_idle_at_once_busy_in_batches(valkey: EmbeddedServer, checkpoint: Path) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint) as worker:
            first, others = text_rows(1, seed=1), [text_rows(1, seed=i) for i in range(2, 8)]
            answers = [asyncio.create_task(embed(gateway, first))]
            await until(lambda: worker.tower.runs == [1])
            answers += [asyncio.create_task(embed(gateway, rows)) for rows in others]
            await until(lambda: _held(valkey) == 7)
            worker.tower.go.set()
            for answer, rows in zip(await asyncio.gather(*answers), [first, *others], strict=True):
                assert_right(answer, rows)
            assert worker.tower.runs == [1, 6]
    assert left_in(valkey.url) == {}


async def test_one_batch_is_held_beside_the_one_on_the_device(
    valkey: EmbeddedServer, checkpoint: Path
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint, max_rows=64) as worker:
            requests = [text_rows(64, seed=i) for i in range(20)]
            answers = []
            for rows in requests:
                answers.append(asyncio.create_task(embed(gateway, rows)))
                await asyncio.sleep(0)
            await until(lambda: worker.tower.runs == [64] and _held(valkey) >= 2)
            # Text entries are read eight at a time at least.
            assert _held(valkey) <= 1 + 8
            worker.tower.go.set()
            for answer, rows in zip(await asyncio.gather(*answers), requests, strict=True):
                assert_right(answer, rows)


async def test_rows_that_fail_do_so_alone(valkey: EmbeddedServer, checkpoint: Path) -> None:
    rows = text_rows(20)
    rows[3], rows[17] = (special_row(kind, TEXT_SHAPE, "int32") for kind in (RAISES, NOT_FINITE))
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint, max_rows=64) as worker:
            worker.tower.go.set()
            neighbour = asyncio.create_task(embed(gateway, text_rows(2, seed=9)))
            assert_right(await embed(gateway, rows), rows, failed={3: "COMPUTE_FAILED", 17: "NON_FINITE"})
            assert_right(await neighbour, text_rows(2, seed=9))


async def test_rows_of_another_shape_are_refused(valkey: EmbeddedServer, checkpoint: Path) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint) as worker:
            worker.tower.go.set()
            short = await gateway.embed("text", [bytes(64)] * 2, (16,), "int32", deadline_s=20)
            assert_right(short, [b"", b""], failed={0: "WRONG_SHAPE", 1: "WRONG_SHAPE"})
            assert "int32 [16]; this worker takes int32 [64]" in short.rows[0].message  # type: ignore[union-attr]
            assert_right(await embed(gateway, text_rows(1)), text_rows(1))


async def test_what_expires_while_it_waits_never_reaches_the_device(
    valkey: EmbeddedServer, checkpoint: Path
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint) as worker:
            first = asyncio.create_task(embed(gateway, text_rows(1, seed=1)))
            await until(lambda: worker.tower.runs == [1])
            hasty = asyncio.create_task(embed(gateway, text_rows(3, seed=2), deadline_s=0.3))
            await until(lambda: _held(valkey) == 2)
            with pytest.raises(DeadlineExceeded):
                await hasty
            worker.tower.go.set()
            assert_right(await first, text_rows(1, seed=1))
            await until(lambda: left_in(valkey.url) == {})
            assert worker.tower.runs == [1]


async def test_a_broken_device_ends_the_loop_and_answers_nothing(
    valkey: EmbeddedServer, checkpoint: Path
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        tower = HeldTower(broken=True)
        tower.go.set()
        with running(valkey, checkpoint, tower) as worker:
            answer = asyncio.create_task(embed(gateway, text_rows(2)))
            await until(lambda: bool(worker.ended))
            assert isinstance(worker.ended[0], DeviceLost)
            assert _held(valkey) == 1
            assert not answer.done()
        with running(valkey, checkpoint) as other:
            other.tower.go.set()
            assert_right(await answer, text_rows(2))


async def test_stopping_finishes_what_is_held_and_leaves_the_rest(
    valkey: EmbeddedServer, checkpoint: Path
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with running(valkey, checkpoint) as worker:
            held = asyncio.create_task(embed(gateway, text_rows(3)))
            await until(lambda: worker.tower.runs == [3])
            worker.loop.stop()
            worker.tower.go.set()
            assert_right(await held, text_rows(3))
            await until(lambda: worker.ended == [None])
            late = asyncio.create_task(embed(gateway, text_rows(1, seed=5)))
            await until(lambda: left_in(valkey.url) != {})
            assert worker.tower.runs == [3]
        with running(valkey, checkpoint) as other:
            other.tower.go.set()
            assert_right(await late, text_rows(1, seed=5))


def _held(valkey: EmbeddedServer) -> int:
    return sum(held for _, held in left_in(valkey.url).values())
