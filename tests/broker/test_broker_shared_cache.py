"""Vectors that gateways share: a cache that never hurts the queue, and whose content is not trusted."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from broker import (
    BrokerUnavailable,
    EmbeddedServer,
    LabelSetStore,
    Permission,
    QueueFull,
    Row,
    SharedCache,
    wire,
)
from broker import shared_cache as module
from broker.keys import Keys
from siglip_settings import RedisSettings
from tests.broker.test_broker_roles import without
from tests.broker.waiting import until
from tests.support.roles import add_users, as_user, set_user
from tests.support.valkey import looking, server_pid

DIM = 4
Open = Callable[..., Awaitable[SharedCache]]


def row(seed: int) -> Row:
    vector = np.random.default_rng(seed).normal(size=DIM)
    norm = np.linalg.norm(vector)
    return Row((vector / norm).astype("<f4").tobytes(), float(np.float32(norm)), "cpu/float32/sdpa")


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


@pytest.fixture
async def cache_of(tag: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def make(url: str, max_bytes: int = 1 << 40, ttl_s: float = 1.0) -> SharedCache:
            settings = RedisSettings(redis_url=url)
            cache = SharedCache(settings, tag=tag, dim=DIM, max_bytes=max_bytes, ttl_s=ttl_s)
            await cache.start()
            stack.push_async_callback(cache.close)
            return cache

        yield make


async def written(cache: SharedCache) -> None:
    await until(lambda: not cache._unwritten and cache._tasks["write"].done())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things makes no server late."""
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 10.0)


@pytest.mark.usefixtures("patient")
async def test_one_writes_and_another_reads(own_server: EmbeddedServer, cache_of: Open) -> None:
    one, other = await cache_of(own_server.url, ttl_s=60), await cache_of(own_server.url)
    for number in range(600):
        one.put(key(number), row(number))
    await written(one)
    asked = [other.get([key(number), key(number + 1), key(9999)]) for number in range(599)]
    for number, found in enumerate(await asyncio.gather(*asked)):
        assert found == {key(number): row(number), key(number + 1): row(number + 1)}
        assert found[key(number)].numerics == "cpu/float32/sdpa"
    with looking(own_server.url) as connection:
        assert 0 < connection.pttl(connection.randomkey()) <= 60_000  # type: ignore[arg-type]
        connection.flushall()


@pytest.mark.usefixtures("patient")
async def test_nothing_but_a_unit_vector_of_this_key_is_used(
    own_server: EmbeddedServer, cache_of: Open, tag: str
) -> None:
    cache = await cache_of(own_server.url)
    good = wire.pack_row(key(1), row(1))
    vector = row(1).vector
    bad = [
        b"",
        b"\xff" * 9,
        wire.pack_row(key(2), row(1)),
        wire.pack_row(key(1), Row(vector[:-4], 1.0, "x")),
        wire.pack_row(key(1), Row(vector + bytes(4), 1.0, "x")),
        wire.pack_row(key(1), Row(bytes(4 * DIM), 1.0, "x")),
        wire.pack_row(key(1), Row(b"\0\0\xc0\x7f" + vector[4:], 1.0, "x")),
        wire.pack_row(key(1), Row(b"\0\0\x80\x7f" + vector[4:], 1.0, "x")),
        wire.pack_row(key(1), Row(vector, float("nan"), "x")),
        wire.pack_row(key(1), Row(vector, float("inf"), "x")),
        wire.pack_row(key(1), Row(vector, 1.0, "x" * 65)),
    ]
    with looking(own_server.url) as connection:
        for value in bad:
            connection.set(Keys(tag).cached(key(1)), value)
            assert await cache.get([key(1)]) == {}, value
        connection.set(Keys(tag).cached(key(1)), good)
        assert await cache.get([key(1)]) == {key(1): row(1)}
        connection.delete(Keys(tag).cached(key(1)))
        connection.lpush(Keys(tag).cached(key(1)), "a list")
        assert await cache.get([key(1)]) == {}
        connection.flushall()


async def test_it_stops_writing_while_the_server_uses_more_than_its_share(
    own_server: EmbeddedServer, cache_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 64 << 20)
        used = int(connection.info("memory")["used_memory"])
        full = await cache_of(own_server.url, used)
        below = await cache_of(own_server.url, used + (8 << 20), ttl_s=60)
        for number in range(300):
            full.put(key(number), row(number))
        await written(full)
        assert connection.dbsize() == 0
        below.put(key(1), row(1))
        await written(below)
        assert connection.dbsize() == 1
        # The share of maxmemory holds, however many bytes are allowed.
        unbounded = await cache_of(own_server.url, ttl_s=60)
        connection.set("queued", bytes(int((64 << 20) * module.MEMORY_SHARE)))
        unbounded.put(key(2), row(2))
        await written(unbounded)
        assert connection.dbsize() == 2
        connection.flushall()


async def test_a_server_that_stalls_is_an_empty_cache(
    own_server: EmbeddedServer, cache_of: Open, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await cache_of(own_server.url, ttl_s=60)
    cache.put(key(1), row(1))
    await written(cache)
    assert await cache.get([key(1)])
    pid, clock = server_pid(own_server.url), asyncio.get_running_loop().time
    os.kill(pid, signal.SIGSTOP)
    began = clock()
    assert await cache.get([key(1)]) == {}
    assert await cache.get([key(1)]) == {}
    # The second did not even ask.
    assert clock() - began < 2 * module.READ_TIMEOUT_S
    os.kill(pid, signal.SIGCONT)
    cache._paused_until_s = 0.0
    await until(lambda: cache._tasks["read"].done())
    assert await cache.get([key(1)]) == {key(1): row(1)}
    assert "the shared cache is not used for a while" in caplog.text and "Traceback" not in caplog.text
    with looking(own_server.url) as connection:
        connection.flushall()


async def test_a_user_that_may_not_share_is_told_at_the_start(
    own_server: EmbeddedServer, cache_of: Open
) -> None:
    add_users(own_server.url)
    await cache_of(as_user(own_server.url, "gateway"))
    set_user(own_server.url, "poor", without("gateway", Permission("set", "cache")))
    with pytest.raises(BrokerUnavailable, match=r"more than this user may do: SET \(cache\);"):
        await cache_of(as_user(own_server.url, "poor"))


async def test_it_starts_while_the_server_is_away(cache_of: Open) -> None:
    cache = await cache_of("redis://127.0.0.1:1")
    cache.put(key(1), row(1))
    assert await cache.get([key(1)]) == {}


async def test_a_label_set_of_another_size_takes_the_place_of_the_first(
    own_server: EmbeddedServer, tag: str
) -> None:
    store = LabelSetStore(RedisSettings(redis_url=own_server.url), tag=tag, max_bytes=1000, ttl_s=60)
    for name, size in (("h", 300), ("h", 310), ("k", 100), ("l", 450)):
        await store.put(name * 64, b"x" * size)
    assert [len(await store.get(name * 64) or b"") for name in "hkl"] == [310, 100, 450]
    await store.close()
    with looking(own_server.url) as connection:
        connection.flushall()


async def test_label_sets_with_the_gateways_user(own_server: EmbeddedServer, tag: str) -> None:
    add_users(own_server.url)
    settings = RedisSettings(redis_url=as_user(own_server.url, "gateway"))
    store = LabelSetStore(settings, tag=tag, max_bytes=100, ttl_s=60)
    for name in "abc":
        await store.put(name * 64, name.encode() * 40)
    assert await store.get("a" * 64) is None and await store.get("b" * 64) == b"b" * 40
    with looking(own_server.url) as connection:
        connection.delete(Keys(tag).label_set("b" * 64))
        await store.renew("b" * 64, b"b" * 40)
        assert connection.get(Keys(tag).label_set("b" * 64)) == b"b" * 40
        connection.config_set("maxmemory", "1")
        with pytest.raises(QueueFull):
            await store.put("d" * 64, b"d" * 40)
        pid = server_pid(own_server.url)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(BrokerUnavailable, match="no answer in 1 s"):
            await store.get("b" * 64)
        os.kill(pid, signal.SIGCONT)
        connection.config_set("maxmemory", "0")
        connection.flushall()
    await store.close()
