"""Chooses device, dtype, attention and threads from the settings and what the machine has."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch

from siglip_model.attention import FLASH, FLASH_DTYPES, choose_attention
from siglip_settings import WorkerSettings
from siglip_settings.cores import usable_cores
from workers.errors import SetupError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Compute:
    """How a tower runs, with every `auto` resolved."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    threads: int

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose(settings: WorkerSettings) -> Compute:
    """Raises SetupError when the device is unknown or absent."""
    device = _device(settings.device)
    dtype = _dtype(settings.dtype, device)
    return Compute(
        device, dtype, _attention(settings.attention, dtype, device), settings.threads or usable_cores()
    )


def apply_threads(threads: int) -> None:
    """Process-wide, and before the first computation: torch refuses it later."""
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SetupError(f"--device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps") from None
    _require_present(name, device)
    return device


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_present(name: str, device: torch.device) -> None:
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type)
    if count is None:
        raise SetupError(f"--device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps")
    if (device.index or 0) >= count:
        raise SetupError(
            f"--device is {name!r}, but torch {torch.__version__} sees {count} of that kind here"
        )


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return DTYPES[name]


def _attention(name: str, dtype: torch.dtype, device: torch.device) -> str:
    chosen = choose_attention(name, dtype, device, [])
    if chosen == FLASH and dtype not in FLASH_DTYPES:
        kinds = " or ".join(name for name, kind in DTYPES.items() if kind in FLASH_DTYPES)
        raise SetupError(f"--attention is {FLASH}, which computes in {kinds}: set --dtype")
    if chosen == FLASH and find_spec("flash_attn") is None:
        raise SetupError(f"--attention is {FLASH}, and the flash-attn package is not installed here")
    return chosen
