"""Sentinels promote the replica under load: every call is answered, rightly and once."""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_settings import RedisSettings
from tests.faults.service import service
from tests.support.sentinels import NAME, Watched, sentinels
from tests.support.valkey import wait_until

pytestmark = pytest.mark.slow


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


async def test_the_primary_is_exchanged(watched: Watched) -> None:
    """For a while both take themselves for the primary; the old one goes on until it is told."""
    settings, tag = RedisSettings(redis_url=watched.url, redis_sentinel_name=NAME), secrets.token_hex(8)
    async with service(settings, tag, watched.left_overs) as (gateway, calls):
        old = watched.primary()
        watched.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)
        await asyncio.to_thread(wait_until, lambda: watched.primary() is not old)
        await calls.goes_on()
        await asyncio.to_thread(wait_until, lambda: old.role() == "slave")
        await calls.goes_on()
    assert gateway.stats["losses"] == 1
