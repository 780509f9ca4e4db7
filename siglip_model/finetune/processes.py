"""The processes of one run, started by torchrun, or this one alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_model.pretrained import device_of


class Processes:
    def __init__(self, device: torch.device) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.world = dist.get_world_size() if together else 1
        self.device = device

    @property
    def first(self) -> bool:
        """Only the first process prints and writes."""
        return self.rank == 0

    def gather(self, x: Tensor) -> Tensor:
        """[n, ...] of each -> [world * n, ...] in the order of ranks."""
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.world)]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    def sum(self, numbers: list[float]) -> list[float]:
        """Of each number over all processes."""
        if self.world == 1:
            return numbers
        # MPS has no float64, but no processes either.
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather_objects(self, value: Any) -> list[Any]:
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The first process's value."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextmanager
def started(device: str) -> Iterator[Processes]:
    """Joins the other processes where torchrun has started several."""
    place = device_of(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(place)
    finally:
        dist.destroy_process_group()
