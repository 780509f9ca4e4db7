"""The queue's two ends under load, without a model, while a test does harm to its servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from broker import GatewayEnd, connect_gateway
from siglip_settings import RedisSettings
from tests.support.queue_load import Load, load
from tests.support.queue_worker import FINGERPRINT, QueueWorker
from tests.support.valkey import wait_until


@contextlib.asynccontextmanager
async def service(
    settings: RedisSettings, tag: str, left_overs: Callable[[str], dict[str, object]]
) -> AsyncIterator[tuple[GatewayEnd, Load]]:
    """A gateway and two workers; at the end every call has its right answer, and nothing is left over."""
    gateway = await connect_gateway(settings, tag=tag, fingerprint=FINGERPRINT, towers=("text",))
    try:
        with QueueWorker(settings, tag), QueueWorker(settings, tag):
            async with load(gateway) as calls:
                await calls.goes_on()
                yield gateway, calls
                await calls.goes_on()
    finally:
        await gateway.close()
    print(calls, dict(gateway.stats))
    assert (calls.errors, calls.wrong) == ({}, 0)
    await asyncio.to_thread(wait_until, lambda: not left_overs(tag), 5.0)
