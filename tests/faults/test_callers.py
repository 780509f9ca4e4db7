"""Callers and gateways that vanish at any moment: nothing of them is left, nobody else notices."""

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Generic, TypeVar, cast

import pytest

from broker import Answer, DeadlineExceeded, EmbeddedServer, GatewayBroker, QueueFull, Row, WouldBeLate
from broker.keys import Keys
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.dead_gateway import die_with_calls
from tests.support.queue_worker import FINGERPRINT, QueueWorker, text_row, vector_of
from tests.support.valkey import looking

T = TypeVar("T")


def embed(gateway: GatewayBroker, number: int, deadline_s: float = 20) -> "asyncio.Task[Answer]":
    call = gateway.embed("text", [text_row(number)], (16,), "int32", deadline_s=deadline_s)
    return asyncio.create_task(call)


def waiting(url: str, tag: str) -> int:
    with looking(url) as connection:
        return int(connection.xlen(Keys(tag).requests("text", "interactive")))


def connections(url: str) -> int:
    with looking(url) as connection:
        return int(connection.info("clients")["connected_clients"])


@pytest.mark.fault(15)
async def test_a_queue_full_of_a_dead_gateways_work_is_free_again(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    await asyncio.to_thread(die_with_calls, embedded.url, tag)
    gateway = await connect(embedded, queue_max_entries=3)
    await until(lambda: gateway.streams()[0].entries == 3)
    with pytest.raises(QueueFull):
        await embed(gateway, 1)
    with QueueWorker(embedded.url, tag):
        await until(lambda: gateway.streams()[0].entries == 0)
        assert (await embed(gateway, 1)).rows == [Row(*vector_of(text_row(1)))]


@pytest.mark.fault(16)
async def test_a_millisecond_to_live(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    """Each is answered or told of its deadline, at once where it is hopeless; the patient are answered."""
    gateway = await connect(embedded)
    with QueueWorker(embedded.url, tag):
        hurried, patient = [], []
        for number in range(200):
            hurried.append(embed(gateway, number, deadline_s=0.001))
            patient.append(embed(gateway, number))
            await asyncio.sleep(0.001)
        ended = await asyncio.gather(*hurried, return_exceptions=True)
        answers = await asyncio.gather(*patient)
        await until(lambda: waiting(embedded.url, tag) == 0)
    right = [[Row(*vector_of(text_row(number)))] for number in range(200)]
    assert [answer.rows for answer in answers] == right
    assert {type(end) for end in ended} <= {Answer, DeadlineExceeded, WouldBeLate}
    assert all(end.rows == row for end, row in zip(ended, right, strict=True) if isinstance(end, Answer))


@pytest.mark.fault(16)
@pytest.mark.fault(22)
async def test_calls_cancelled_at_any_moment_of_their_lives(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    """Sent, waiting, in a worker's hand, answered: their neighbours are answered, nothing is left."""
    gateway, moments = await connect(embedded), random.Random(16)
    right = [[Row(*vector_of(text_row(number)))] for number in range(300)]
    with QueueWorker(embedded.url, tag, on_jobs=lambda jobs: time.sleep(0.002 * bool(jobs))):
        stayed = []
        for number in range(300):
            leaves, stays = embed(gateway, number), embed(gateway, number)
            asyncio.get_running_loop().call_later(moments.uniform(0, 0.01), leaves.cancel)
            stayed.append(stays)
            await asyncio.sleep(moments.uniform(0, 0.002))
        assert [answer.rows for answer in await asyncio.gather(*stayed)] == right
        await until(lambda: waiting(embedded.url, tag) == 0)
    assert (gateway._held.entries, gateway._room.used_bytes) == ({}, 0)


@pytest.mark.fault(22)
async def test_a_gateway_cancelled_at_any_await_of_its_start_or_end_leaves_no_connection(
    own_server: EmbeddedServer, tag: str
) -> None:
    """At its first await, at its second, and so on. It may still succeed: Redis calls swallow some."""
    settings, before = RedisSettings(redis_url=own_server.url), connections(own_server.url)

    async def started() -> GatewayBroker:
        return await GatewayBroker.connect(settings, tag=tag, fingerprint=FINGERPRINT)

    for at in itertools.count(1):
        starting = CancelledAt(started(), at)
        if (gateway := await starting.end()) is not None:
            await gateway.close()
        if starting.awaits < at:
            break
    for ends_at in itertools.count(1):
        gateway = await started()
        closing = CancelledAt(gateway.close(), ends_at)
        await closing.end()
        await gateway.close()
        if closing.awaits < ends_at:
            break
    assert at > 5 and ends_at > 5, (at, ends_at)
    await until(lambda: connections(own_server.url) == before)
    with looking(own_server.url) as connection:
        connection.flushall()  # reply streams of those who could not delete theirs expire later


class CancelledAt(Generic[T]):
    """A coroutine that is cancelled at the await with this number, from 1; `awaits` counts them."""

    def __init__(self, coroutine: Coroutine[object, None, T], number: int) -> None:
        self.awaits = 0
        self._coroutine = coroutine
        self._number = number

    async def end(self) -> T | None:
        """Its result, or None when it was cancelled."""
        task = asyncio.create_task(self._run())
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _run(self) -> T:
        return await self

    def __await__(self) -> Generator[object, None, T]:
        task = asyncio.current_task()
        assert task is not None
        resume = partial(self._coroutine.send, None)
        while True:
            try:
                waited_for = resume()
            except StopIteration as end:
                return cast(T, end.value)
            self.awaits += 1
            if self.awaits == self._number:
                task.cancel()
            try:
                yield waited_for
                resume = partial(self._coroutine.send, None)
            except asyncio.CancelledError as cancelled:
                resume = partial(self._coroutine.throw, cancelled)


@pytest.mark.fault(21)
@pytest.mark.slow
async def test_a_thousand_gateways_come_and_go(own_server: EmbeddedServer, tag: str) -> None:
    settings, before = RedisSettings(redis_url=own_server.url), connections(own_server.url)
    turns = asyncio.Semaphore(20)

    async def come_and_go(number: int) -> None:
        async with turns:
            gateway = await GatewayBroker.connect(settings, tag=tag, fingerprint=FINGERPRINT)
            answer = await gateway.embed("text", [text_row(number)], (16,), "int32", deadline_s=20)
            assert answer.rows == [Row(*vector_of(text_row(number)))]
            await gateway.close()

    with QueueWorker(own_server.url, tag):
        await asyncio.gather(*(come_and_go(number) for number in (*range(500), *range(500))))
    await until(lambda: connections(own_server.url) == before)
