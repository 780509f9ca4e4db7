"""What becomes of a gateway that is asked for more than its workers can do.

Calls arrive by chance at a given rate, whatever becomes of earlier ones (an open loop), each with a
deadline. The worker is a stand-in of known speed, slow enough that neither the gateway nor this program
is what limits. Bars: at three times saturation the answers in time are at least 90 % of the peak, and 99 % of
them come within the deadline.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import machine
from benchmarks.plot import Line, beside, plot
from broker import EmbeddedServer
from siglip_cli.probe import serves
from siglip_client import AsyncClient, SiglipError
from tests.faults.fleet import Part
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.slow_model import slow_worker
from tests.support.tcp_server import free_port
from tests.support.valkey import wait_until

ROWS, BATCH_S = 8, 0.08
SATURATION = ROWS / BATCH_S  # calls of one text, a second
LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
DEADLINE_S = 1.0
SETTLING_S = 3.0


@dataclass
class Phase:
    """One load, after it has settled."""

    load: float
    seconds: float
    sent: int = 0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def goodput(self) -> float:
        return len(self.answered_s) / self.seconds

    def row(self) -> str:
        errors = ", ".join(f"{count} {code}" for code, count in sorted(self.errors.items()))
        return (
            f"{self.load:>6.1f}{self.sent / self.seconds:>12.0f}{self.goodput:>10.1f}"
            f"{quantile(self.answered_s, 0.5):>10.0f}{quantile(self.answered_s, 0.99):>10.0f}"
            f"{len(self.refused_s):>10}{quantile(self.refused_s, 0.99):>12.1f}   {errors}"
        )


def quantile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    return float(np.quantile(seconds, share)) * 1000 if seconds else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12, help="of each load, beside settling")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    print(machine.describe())
    print(f"worker    {ROWS} rows in {BATCH_S:g} s: {SATURATION:.0f} calls/s; deadline {DEADLINE_S:g} s\n")
    phases = measure(options.seconds)
    if options.plot:
        draw(phases).save(options.plot)
    return verdict(phases)


def measure(seconds: float) -> list[Phase]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer() as queue:
        model = write_tiny_checkpoint(Path(folder) / "tiny")
        port = free_port()
        arguments = ["gateway", "--towers", "text", "--listen", f"127.0.0.1:{port}", "--log-level", "warning"]
        environ = {"SIGLIP_REDIS_URL": queue.url, "SIGLIP_MODEL": str(model), "SIGLIP_CANARY_INTERVAL_S": "0"}
        gateway = Part("gateway", arguments, environ, Path(folder) / "log")
        with slow_worker("text", model, queue.url, batch_s=BATCH_S, max_batch_rows=ROWS):
            gateway.start()
            try:
                wait_until(lambda: serves(f"127.0.0.1:{port}"))
                print("  load   offered/s   good/s    p50 ms    p99 ms   refused  p99 of them   other errors")
                return asyncio.run(all_loads(f"127.0.0.1:{port}", seconds))
            finally:
                gateway.end(15)


async def all_loads(address: str, seconds: float) -> list[Phase]:
    phases = []
    async with AsyncClient(address, timeout_s=DEADLINE_S, retries=0) as client:
        await client.embed_texts(["warm"])
        for load in LOADS:
            phase = Phase(load, seconds)
            await offer(client, phase)
            print(phase.row(), flush=True)
            phases.append(phase)
    return phases


async def offer(client: AsyncClient, phase: Phase) -> None:
    draw, calls = random.Random(phase.load), set()
    begun_s = next_s = time.monotonic()
    while next_s < begun_s + SETTLING_S + phase.seconds:
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        counted = next_s - begun_s >= SETTLING_S
        calls.add(
            asyncio.create_task(one(client, phase if counted else Phase(0, 1), f"text {draw.random()}"))
        )
        next_s += draw.expovariate(phase.load * SATURATION)
    await asyncio.gather(*calls)


async def one(client: AsyncClient, phase: Phase, text: str) -> None:
    phase.sent += 1
    begun_s = time.monotonic()
    try:
        await client.embed_texts([text])
    except SiglipError as error:
        if error.code.name == "RESOURCE_EXHAUSTED":
            phase.refused_s.append(time.monotonic() - begun_s)
        else:
            phase.errors[error.code.name] += 1
    else:
        phase.answered_s.append(time.monotonic() - begun_s)


def draw(phases: list[Phase]) -> Image.Image:
    offered = [phase.sent / phase.seconds for phase in phases]
    good = Line("answered in time", [(0, 0), *zip(offered, (p.goodput for p in phases), strict=True)])
    late = Line("p99", list(zip(offered, (quantile(p.answered_s, 0.99) for p in phases), strict=True)))
    median = Line("median", list(zip(offered, (quantile(p.answered_s, 0.5) for p in phases), strict=True)))
    return beside(
        plot("Answers in time", "calls offered a second", "calls/s", [good]),
        plot("Time of the answered calls", "calls offered a second", "ms", [median, late]),
    )


def verdict(phases: list[Phase]) -> int:
    peak, last = max(phase.goodput for phase in phases), phases[-1]
    kept, p99_ms = last.goodput / peak, quantile(last.answered_s, 0.99)
    print(f"\nat {last.load:g} times saturation: {kept:.0%} of the peak, p99 {p99_ms:.0f} ms")
    met = kept >= 0.9 and p99_ms <= DEADLINE_S * 1000
    print(f"bars: at least 90 %, within the deadline: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
