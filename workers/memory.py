"""How much memory of its device a worker takes."""

import os
from pathlib import Path

import torch

_STATM = Path("/proc/self/statm")


def used_bytes(device: torch.device) -> int | None:
    """Of tensors; on the CPU of the whole process. None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if _STATM.exists() else None


def reserved_bytes(device: torch.device) -> int | None:
    """What torch holds from the device, for tensors to come; None for the CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else None
