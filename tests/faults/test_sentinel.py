"""Sentinels promote the replica under load: every call is answered, rightly and once."""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_settings import RedisSettings
from tests.broker.waiting import until
from tests.faults.service import service
from tests.support.sentinels import NAME, Watched, sentinels
from tests.support.valkey import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.fault(8)]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with sentinels(tmp_path) as found:
        yield found


@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP", "a Sentinel too"])
async def test_the_primary_fails(watched: Watched, fault: str) -> None:
    settings, tag = RedisSettings(redis_url=watched.url, redis_sentinel_name=NAME), secrets.token_hex(8)
    async with service(settings, tag, watched.left_overs) as (gateway, calls):
        lost = watched.primary()
        if fault == "a Sentinel too":
            await asyncio.to_thread(watched.sentinels[1].kill)
        await asyncio.to_thread(lost.signal, signal.SIGSTOP if fault == "SIGSTOP" else signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: watched.primary() is not lost)
        await calls.goes_on()
        if fault == "SIGSTOP":
            # It still takes itself for the primary, until the Sentinels tell it.
            lost.signal(signal.SIGCONT)
            await asyncio.to_thread(wait_until, lambda: lost.role() == "slave")
    assert gateway.stats["losses"] == 1


async def test_two_primaries_for_a_while(watched: Watched) -> None:
    """After an exchange by hand the old one goes on with those it has, until the Sentinels tell it."""
    settings, tag = RedisSettings(redis_url=watched.url, redis_sentinel_name=NAME), secrets.token_hex(8)
    async with service(settings, tag, watched.left_overs) as (gateway, calls):
        old = watched.primary()
        watched.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)
        await asyncio.to_thread(wait_until, lambda: watched.primary() is not old)
        await calls.goes_on()
        await asyncio.to_thread(wait_until, lambda: old.role() == "slave")
        await calls.goes_on()
    assert gateway.stats["losses"] == 1


async def test_a_primary_without_replicas_sends_its_clients_away(tmp_path: Path) -> None:
    options = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
    tag = secrets.token_hex(8)
    with sentinels(tmp_path, 2, *options) as watched:
        settings = RedisSettings(redis_url=watched.url, redis_sentinel_name=NAME)
        async with service(settings, tag, watched.left_overs) as (gateway, calls):
            old = watched.primary()
            watched.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)
            await until(lambda: gateway.stats["losses"] == 1)
            assert old.role() == "master"
            await calls.goes_on()
