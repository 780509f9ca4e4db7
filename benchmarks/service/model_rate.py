"""A tower by itself, as a worker runs it: in batches of the size that a worker would choose."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.service.unit import Unit
from workers.calibrate import calibrate
from workers.device import Compute
from workers.tower import ModelTower, load

Tower = Literal["text", "vision"]
WARM_UP_S = 0.3
TOWERS: tuple[Tower, ...] = ("text", "vision")


class ModelRate:
    """`processes` with `threads` each, which wait while others are measured. Use as a context manager."""

    def __init__(self, folder: Path, processes: int, threads: int) -> None:
        self._folder, self._processes, self._threads = folder, processes, threads
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (threads,))

    def __enter__(self) -> "ModelRate":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    async def warm(self) -> None:
        """Loads both towers and finds their batches."""
        for tower in TOWERS:
            await self.measure(tower, 0.0)

    async def measure(self, tower: Tower, seconds: float) -> Unit:
        found = await asyncio.to_thread(self._run, tower, seconds)
        rows, batch = sum(each[0] for each in found), max(each[3] for each in found)
        rate = sum(count / wall_s for count, wall_s, _, _ in found)
        told = f"{self._processes} x {self._threads} threads, batches of {batch}"
        return Unit(rate, 1e6 * sum(each[2] for each in found) / rows, told)

    def _run(self, tower: Tower, seconds: float) -> list[tuple[int, float, float, int]]:
        begin_s = time.monotonic() + WARM_UP_S
        waiting = [
            self._pool.submit(_compute, self._folder, tower, self._threads, begin_s, seconds)
            for _ in range(self._processes)
        ]
        return [each.result() for each in waiting]


def _compute(
    folder: Path, tower: Tower, threads: int, begin_s: float, seconds: float
) -> tuple[int, float, float, int]:
    """Rows, the wall and CPU time that they took, and how many were computed at once."""
    model, batch = _loaded(folder, tower, threads)
    rows = np.random.default_rng(0).integers(0, 255, (batch, *model.row_shape)).astype(model.dtype)
    model.run(rows)  # after a while without work even its weights may be out of memory
    time.sleep(max(0.0, begin_s - time.monotonic()))
    count, started_s, cpu_s = 0, time.monotonic(), time.process_time()
    while not count or time.monotonic() < started_s + seconds:
        model.run(rows)
        count += batch
    return count, time.monotonic() - started_s, time.process_time() - cpu_s, batch


@cache
def _loaded(folder: Path, tower: Tower, threads: int) -> tuple[ModelTower, int]:
    model = load(folder, tower, Compute(torch.device("cpu"), torch.float32, "sdpa", threads))
    return model, calibrate(model)
