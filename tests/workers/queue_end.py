"""The other end of the queue: what a gateway does, without a gateway."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import redis

from broker import Answer, GatewayBroker, GatewayLimits, Row, RowError, model_tag
from siglip_model.fingerprint import fingerprint
from siglip_settings import RedisSettings
from tests.support.slow_model import vector_of

TEXT_SHAPE = (64,)
DIM = 32
"""Of the tiny checkpoint."""


@asynccontextmanager
async def gateway_end(url: str, checkpoint: Path) -> AsyncIterator[GatewayBroker]:
    digest = fingerprint(checkpoint)
    settings, tag = RedisSettings(redis_url=url), model_tag(checkpoint.name, digest)
    # Starting a worker takes long on a busy machine.
    limits = GatewayLimits(no_worker_timeout_s=60)
    broker = await GatewayBroker.connect(settings, tag=tag, fingerprint=digest, limits=limits)
    try:
        yield broker
    finally:
        await broker.close()


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Polls; a condition that stays false fails the test."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(0.005)


async def workers_alive(broker: GatewayBroker, count: int) -> None:
    """Until so many text workers hold a lease."""
    deadline = time.monotonic() + 30
    while len(await broker.workers("text")) != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def text_rows(count: int, seed: int = 0) -> list[bytes]:
    ids = np.random.default_rng(seed).integers(300, 400, (count, *TEXT_SHAPE), dtype=np.int32)
    return [row.tobytes() for row in ids]


async def embed(broker: GatewayBroker, rows: Sequence[bytes], deadline_s: float = 60.0) -> Answer:
    return await broker.embed("text", rows, TEXT_SHAPE, "int32", deadline_s=deadline_s)


def assert_right(answer: Answer, rows: Sequence[bytes], failed: dict[int, str] | None = None) -> None:
    """Every row has the vector that the stand-in gives, but for `failed`: the row's number and reason."""
    assert len(answer.rows) == len(rows)
    for i, (got, row) in enumerate(zip(answer.rows, rows, strict=True)):
        if reason := (failed or {}).get(i):
            assert isinstance(got, RowError)
            assert got.reason == reason
            continue
        unit, norm = vector_of(row, DIM)
        assert got == Row(unit.tobytes(), float(np.float32(norm)))


def left_in(url: str) -> dict[str, tuple[int, int]]:
    """Entries in each request stream, and how many of them somebody holds; {} when all are empty."""
    client = redis.Redis.from_url(url, protocol=2)
    found = {}
    for key in client.scan_iter("*:requests:*"):
        held = client.xpending(key, "workers")["pending"] if client.xinfo_groups(key) else 0
        if client.xlen(key) or held:
            found[key.decode()] = (client.xlen(key), held)
    client.close()
    return found


def leases_in(url: str) -> list[bytes]:
    """Keys of the workers that count as alive."""
    client = redis.Redis.from_url(url, protocol=2)
    found = list(client.scan_iter("*:lease:*"))
    client.close()
    return found
