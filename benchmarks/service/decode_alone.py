"""The gateway's decoding, by itself: as many processes as cores, nothing between them."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.service import inputs
from benchmarks.service.unit import Unit
from gateway.decode_helper import answer_to
from gateway.decoding import PIXELS, DecoderSettings
from gateway.memory import return_freed_memory
from siglip_model.image_processing import BICUBIC, ImageLimits
from siglip_settings.tables import MIB

LIMITS = ImageLimits(max_bytes=16 * MIB, max_pixels=50_000_000)


class DecodeAlone:
    """The processes wait while others are measured. Use as a context manager."""

    def __init__(self, side: int, cores: int) -> None:
        self._settings = DecoderSettings(side, BICUBIC, LIMITS.max_bytes, LIMITS.max_pixels, 512 * MIB)
        self._cores = cores
        self._pool = ProcessPoolExecutor(cores, get_context("spawn"), _start)
        self._run(0.0)

    def __enter__(self) -> "DecodeAlone":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    async def measure(self, seconds: float) -> Unit:
        found = await asyncio.to_thread(self._run, seconds)
        pictures = sum(count for count, _, _ in found)
        rate = sum(count / wall_s for count, wall_s, _ in found)
        return Unit(rate, 1e6 * sum(cpu_s for _, _, cpu_s in found) / pictures)

    def _run(self, seconds: float) -> list[tuple[int, float, float]]:
        begin_s = time.monotonic() + 0.1  # all at once, so that none has a core's share of another
        waiting = [self._pool.submit(_decode, self._settings, begin_s, seconds) for _ in range(self._cores)]
        return [each.result() for each in waiting]


def _start() -> None:
    return_freed_memory()
    inputs.draw_all()


def _decode(settings: DecoderSettings, begin_s: float, seconds: float) -> tuple[int, float, float]:
    """Pictures, and the wall and CPU time that they took."""
    time.sleep(max(0.0, begin_s - time.monotonic()))
    count, started_s, cpu_s = 0, time.monotonic(), time.process_time()
    while not count or time.monotonic() < started_s + seconds:
        kind, _ = answer_to(inputs.picture(count), LIMITS, settings)
        assert kind == PIXELS
        count += 1
    return count, time.monotonic() - started_s, time.process_time() - cpu_s
