"""A gateway process that is killed while its calls wait."""

import asyncio
import os
import signal
import subprocess
import sys

from broker import GatewayBroker, GatewayLimits
from siglip_settings import RedisSettings
from tests.support.queue_worker import FINGERPRINT, text_row


def die_with_calls(url: str, tag: str) -> str:
    """Its id; three entries of it wait in the stream."""
    command = [sys.executable, "-m", "tests.support.dead_gateway", url, tag]
    dead = subprocess.run(command, capture_output=True, text=True, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    return dead.stdout.strip()


async def main(url: str, tag: str) -> None:
    gateway = await GatewayBroker.connect(
        RedisSettings(redis_url=url),
        tag=tag,
        fingerprint=FINGERPRINT,
        limits=GatewayLimits(reply_ttl_s=0.5, check_every_s=0.05),
    )
    call = gateway.embed("text", [text_row(1)] * 192, (16,), "int32", deadline_s=60)
    waiting = asyncio.create_task(call)
    held = gateway._held.entries
    while not held or any(entry.entry_id is None for entry in held.values()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print(gateway.gateway_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    await waiting


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
