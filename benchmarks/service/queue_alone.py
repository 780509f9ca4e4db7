"""The queue by itself: a gateway's end of it here, a server, and a worker that answers at once."""

import asyncio
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.service import load
from benchmarks.service.queue_echo import FINGERPRINT, TAG
from benchmarks.service.unit import Unit
from broker import ROWS_PER_ENTRY, EmbeddedServer, GatewayEnd, Tower, connect_gateway
from broker.jobs import DTYPE_OF, ITEM_BYTES
from siglip_settings import RedisSettings
from tests.support.valkey import wait_until

IN_FLIGHT = 8
PARTS = ("client", "queue", "echo worker")


class QueueAlone:
    def __init__(self, gateway: GatewayEnd, shapes: dict[Tower, tuple[int, ...]]) -> None:
        self._gateway, self._shapes = gateway, shapes

    async def measure(self, tower: Tower, seconds: float) -> Unit:
        """Whole entries, as streams make them."""
        shape, dtype, count = self._shapes[tower], DTYPE_OF[tower], ROWS_PER_ENTRY[tower]
        size = math.prod(shape) * ITEM_BYTES[dtype]
        rows = [os.urandom(size) for _ in range(count)]

        async def call(number: int) -> None:
            await self._gateway.embed(tower, rows, shape, dtype, deadline_s=30)

        found = await load.measure(partial(load.closed, call, IN_FLIGHT), seconds)
        cpu_us = sum(found.cpu_us.get(part, 0.0) for part in PARTS) / count
        return Unit(found.rate * count, cpu_us, f"entries of {count} rows, {size} bytes each")


@asynccontextmanager
async def queue_alone(shapes: dict[Tower, tuple[int, ...]], dim: int) -> AsyncIterator[QueueAlone]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        settings = RedisSettings(redis_url=server.url)
        with _workers(server.url, shapes, dim):
            gateway = await connect_gateway(settings, tag=TAG, fingerprint=FINGERPRINT)
            try:
                await asyncio.to_thread(wait_until, lambda: all(map(gateway.live_workers().get, shapes)))
                yield QueueAlone(gateway, shapes)
            finally:
                await gateway.close()


@contextmanager
def _workers(url: str, towers: Iterable[Tower], dim: int) -> Iterator[None]:
    program = [sys.executable, "-m", "benchmarks.service.queue_echo", url]
    workers = [subprocess.Popen([*program, tower, str(dim)]) for tower in towers]
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
