"""A cluster loses nodes and moves slots under load: every call is answered, rightly and once."""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_settings import RedisSettings
from tests.faults.service import service
from tests.support.cluster import Cluster, cluster, slot_of
from tests.support.valkey import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as found:
        yield found


def settings_of(nodes: Cluster, shards: int) -> RedisSettings:
    return RedisSettings(redis_url=nodes.url, redis_cluster="on", redis_shards=shards)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
async def test_a_primary_fails(nodes: Cluster, shards: int, fault: str) -> None:
    tag = secrets.token_hex(8)
    async with service(settings_of(nodes, shards), tag, nodes.left_overs) as (gateway, calls):
        lost = nodes.owner_of(tag)
        if fault == "SIGKILL":
            await asyncio.to_thread(lost.kill)
        else:
            await asyncio.to_thread(lost.signal, signal.SIGSTOP)
        await asyncio.to_thread(wait_until, lambda: nodes.has_left(lost, tag))
        await calls.goes_on()
        if fault == "SIGKILL":
            await asyncio.to_thread(lost.start)
        else:
            lost.signal(signal.SIGCONT)
        await asyncio.to_thread(wait_until, nodes.is_well)
    assert gateway.stats["losses"] >= 1


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_slot_moves(nodes: Cluster, shards: int) -> None:
    """While its keys are at two nodes the queue waits; then it goes on at the new one."""
    tag = secrets.token_hex(8)
    async with service(settings_of(nodes, shards), tag, nodes.left_overs) as (gateway, calls):
        for _ in range(2):
            target = nodes.other_primary(nodes.owner_of(tag))
            source = await asyncio.to_thread(nodes.start_moving, slot_of(tag), target)
            await calls.goes_on()
            await asyncio.to_thread(nodes.move_keys, slot_of(tag), source, target)
            await asyncio.sleep(0.5)  # calls meet keys that are neither here nor there
            await asyncio.to_thread(nodes.end_moving, slot_of(tag), source, target)
            await calls.goes_on()
    assert gateway.stats["losses"] == 2


async def test_a_shard_is_lost_for_good(nodes: Cluster) -> None:
    """The others answer what waited in it, and all that comes."""
    tag = secrets.token_hex(8)
    for node in nodes.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with service(settings_of(nodes, 4), tag, nodes.left_overs) as (_, calls):
        lost = nodes.nodes_of(tag)
        for node in lost:
            await asyncio.to_thread(node.kill)
        await asyncio.sleep(3)
        for node in lost:
            await asyncio.to_thread(node.start)
        await asyncio.to_thread(wait_until, nodes.is_well)
    assert max(calls.took_s) < 5
