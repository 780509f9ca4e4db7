"""Workers killed one after the other, and a row that hangs every device it meets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from broker import EmbeddedServer, GatewayBroker, RowError
from broker.keys import GROUP
from tests.support.slow_model import HANGS, slow_worker, special_row
from tests.support.valkey import looking
from tests.workers.queue_end import (
    TEXT_SHAPE,
    assert_right,
    embed,
    gateway_end,
    left_in,
    text_rows,
    until,
    workers_alive,
)

pytestmark = pytest.mark.slow


@pytest.fixture
async def gateway(own_server: EmbeddedServer, checkpoint: Path) -> AsyncIterator[GatewayBroker]:
    async with gateway_end(own_server.url, checkpoint) as broker:
        yield broker


def deliveries(url: str) -> list[int]:
    """How often each entry that somebody holds was handed to a worker."""
    with looking(url) as connection:
        return [
            entry["times_delivered"]
            for stream in connection.scan_iter("*:requests:*")
            for entry in connection.xpending_range(stream, GROUP, "-", "+", 100)
        ]


@pytest.mark.fault(2)
async def test_who_took_over_is_killed_too(
    own_server: EmbeddedServer, gateway: GatewayBroker, checkpoint: Path
) -> None:
    calls = [asyncio.create_task(embed(gateway, text_rows(2, seed=seed))) for seed in range(4)]
    for deaths in (0, 1):
        with slow_worker("text", checkpoint, own_server.url, batch_s=60):
            await until(lambda deaths=deaths: 1 + deaths in deliveries(own_server.url))
        await workers_alive(gateway, 0)
    with slow_worker("text", checkpoint, own_server.url):
        for seed, answer in enumerate(await asyncio.gather(*calls)):
            assert_right(answer, text_rows(2, seed=seed))
    assert left_in(own_server.url) == {}


@pytest.mark.fault(4)
async def test_a_row_that_hangs_every_device(
    own_server: EmbeddedServer, gateway: GatewayBroker, checkpoint: Path
) -> None:
    """Its workers end, so that others can be started; its neighbours are answered, and so is its caller."""
    poison = [special_row(HANGS, TEXT_SHAPE, "int32")]
    with ExitStack() as stack:

        def start() -> "Popen[bytes]":
            return stack.enter_context(slow_worker("text", checkpoint, own_server.url))

        workers = [start(), start()]
        await workers_alive(gateway, 2)
        poisoned = asyncio.create_task(embed(gateway, poison, deadline_s=90))
        neighbours = [asyncio.create_task(embed(gateway, text_rows(2, seed=i))) for i in range(20)]
        while not poisoned.done():
            workers += [start() for worker in workers[-2:] if worker.poll() is not None]
            await asyncio.wait([poisoned], timeout=0.1)
        (error,) = (await poisoned).rows
        assert isinstance(error, RowError) and error.reason == "POISON_QUARANTINED"
        for seed, answer in enumerate(await asyncio.gather(*neighbours)):
            assert_right(answer, text_rows(2, seed=seed))
        await until(lambda: sum(worker.poll() is not None for worker in workers) == 3, 60)
        assert {worker.poll() for worker in workers} == {None, 1}
    with looking(own_server.url) as connection:
        connection.delete(*connection.scan_iter("*:dead:text"))
