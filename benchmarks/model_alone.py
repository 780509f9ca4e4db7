"""The model's own time for one row: plain torch, in a process with as many threads as a worker has."""

import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from siglip_model.checkpoint import load_tower

Tower = Literal["text", "vision"]
WARM_UPS = 20


class ModelAlone:
    """Waits on a pipe while others are timed. Use as a context manager."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        # Spawned: a forked child would share the state of gRPC's threads.
        spawn = get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, torch.set_num_threads, (threads,))

    def __enter__(self) -> "ModelAlone":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def seconds(self, tower: Tower, repeats: int) -> list[float]:
        """Time of each of `repeats` forward passes of one row."""
        return self._pool.submit(_seconds, self._folder, tower, repeats).result()


def _seconds(folder: Path, tower: Tower, repeats: int) -> list[float]:
    found = []
    model, row = _loaded(folder, tower)
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            model(row)
            found.append(time.perf_counter() - start)
    return found


@cache
def _loaded(folder: Path, tower: Tower) -> tuple[torch.nn.Module, torch.Tensor]:
    model = load_tower(folder, tower)
    row = one_row(model.config, tower)
    with torch.inference_mode():
        for _ in range(WARM_UPS):
            model(row)
    return model, row


def one_row(config: object, tower: Tower) -> torch.Tensor:
    if tower == "text":
        return torch.ones(1, config.max_position_embeddings, dtype=torch.int64)  # type: ignore[attr-defined]
    side = config.image_size  # type: ignore[attr-defined]
    return torch.zeros(1, 3, side, side)
