"""This machine: limits of the system, and what would compute."""

import resource
from collections.abc import Iterator
from importlib.util import find_spec

from siglip_cli.doctor.findings import Finding
from siglip_settings.cores import usable_cores

FEW_FILES = 1024


def check_machine() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        yield Finding(
            "warning",
            "open files",
            f"at most {soft} files and connections for each process",
            f"raise it: ulimit -n {min(65536, hard) if hard > 0 else 65536}",
        )
    else:
        yield Finding("ok", "open files", f"at most {soft} for each process")
    yield _device()


def _device() -> Finding:
    if find_spec("torch") is None:
        return Finding("skipped", "device", "torch is not installed here: no worker runs on this machine")
    import torch

    if not torch.cuda.is_available():
        kind = "mps" if torch.backends.mps.is_available() else f"cpu, {usable_cores()} cores"
        return Finding("ok", "device", f"{kind}; torch {torch.__version__} sees no CUDA device")
    try:
        free, total = torch.cuda.mem_get_info()
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return Finding(
            "problem", "device", f"CUDA does not work: {reason}", "look at nvidia-smi and the driver"
        )
    name = torch.cuda.get_device_name()
    return Finding(
        "ok", "device", f"{name}, {free >> 20:,} of {total >> 20:,} MiB free; torch {torch.__version__}"
    )
