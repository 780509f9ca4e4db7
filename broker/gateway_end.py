"""Starts a gateway's end of the queue, whether it has one shard or several."""

import asyncio
from dataclasses import replace
from typing import TypeGuard

from broker.connection import HOPELESS
from broker.ends import GatewayEnd
from broker.errors import BrokerUnavailable
from broker.gateway import GatewayBroker
from broker.jobs import RedisUrls, Tower
from broker.limits import GatewayLimits
from broker.sharded_gateway import ShardedGateway


async def connect_gateway(
    settings: RedisUrls,
    *,
    tag: str,
    fingerprint: str,
    towers: tuple[Tower, ...] = ("text", "vision"),
    limits: GatewayLimits | None = None,
) -> GatewayEnd:
    """A gateway's end of all shards; some may be away. Raises BrokerUnavailable or UnsuitableServer."""
    limits = divided(limits or GatewayLimits(), settings.redis_shards)
    shards = [
        GatewayBroker(settings, tag=tag, fingerprint=fingerprint, towers=towers, limits=limits, shard=shard)
        for shard in range(settings.redis_shards)
    ]
    if len(shards) == 1:
        await shards[0].start()
        return shards[0]
    await start_all(shards)
    return ShardedGateway(shards, towers, limits)


async def start_all(shards: list[GatewayBroker]) -> None:
    """Raises what is wrong with all, or with one for good; one that is away starts when it has come back."""
    found = await asyncio.gather(*(shard.start() for shard in shards), return_exceptions=True)
    failed = {shard: error for shard, error in zip(shards, found, strict=True) if error is not None}
    away = {shard: error for shard, error in failed.items() if _may_pass(error)}
    if len(away) < len(failed) or len(failed) == len(shards):
        await asyncio.gather(*(shard.close() for shard in shards if shard not in failed))
        raise next(error for shard, error in failed.items() if len(away) == len(shards) or shard not in away)
    for shard, error in away.items():
        shard.start_later(error)


def _may_pass(error: BaseException) -> TypeGuard[BrokerUnavailable]:
    return isinstance(error, BrokerUnavailable) and not isinstance(error.__cause__, HOPELESS)


def divided(limits: GatewayLimits, shards: int) -> GatewayLimits:
    """Each shard has its part of the gateway's memory, and of a server's, for all may be on one."""
    return replace(
        limits,
        max_in_flight_bytes=max(1, limits.max_in_flight_bytes // shards),
        queue_memory_share=limits.queue_memory_share / shards,
    )
