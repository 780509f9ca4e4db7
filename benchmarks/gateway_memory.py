"""Resident memory of the gateway process while it answers many calls with one 640 x 480 JPEG each.

Starts `siglip serve` on a tiny random checkpoint with 224 x 224 pixels (what the gateway decodes to and
queues is then as large as with a published one) and prints the gateway's memory after so many calls.
Ends with status 1 when it was ever above the bar.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.pictures import photo
from examples.local_service import local_service
from siglip_client import AsyncClient
from tests.support.checkpoints import write_tiny_checkpoint

BAR_MB = 150.0
PICTURES = 64
MARKS = (1_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def main() -> int:
    arguments = parse_arguments()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as temporary:
        vision = {"image_size": 224, "patch_size": 32}
        folder = arguments.model or write_tiny_checkpoint(Path(temporary) / "tiny-224", vision=vision)
        options = ("--device", "cpu", "--log-level", "warning", "--cache-bytes", "0")
        with local_service(str(folder), Path(temporary) / "run", *options) as address:
            print(f"model     {folder.name}; {arguments.in_flight} calls in flight\n")
            highest_mb = asyncio.run(drive(address, arguments.requests, arguments.in_flight))
    met = highest_mb < arguments.bar_mb
    print(f"\nbar: always below {arguments.bar_mb:g} MB: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="checkpoint folder [a tiny random one of 224 px]")
    parser.add_argument("--requests", type=int, default=20_000, help="[%(default)s]")
    parser.add_argument("--in-flight", type=int, default=16, help="calls at a time [%(default)s]")
    parser.add_argument("--bar-mb", type=float, default=BAR_MB, help="[%(default)s]")
    return parser.parse_args()


async def drive(address: str, requests: int, in_flight: int) -> float:
    """Makes the calls, prints a line at each mark; the highest memory at any of them, in MB."""
    gateway = gateway_process()
    seen = [memory_mb(gateway)]
    print(f"{'calls':>8}  {'MB':>7}  calls/s\n{0:>8}  {seen[0]:7.1f}")
    pictures = [photo(seed) for seed in range(PICTURES)]
    done = 0
    async with AsyncClient(address, timeout_s=60) as client:
        await client.get_model()
        for mark in sorted({mark for mark in MARKS if mark < requests} | {requests}):
            start = time.monotonic()
            await send(client, pictures, mark - done, in_flight)
            rate = (mark - done) / (time.monotonic() - start)
            seen.append(memory_mb(gateway))
            print(f"{mark:>8}  {seen[-1]:7.1f}  {rate:7.0f}", flush=True)
            done = mark
    print(f"\ngrowth after the first {min(MARKS[0], requests)} calls: {seen[-1] - seen[1]:+.1f} MB")
    return max(seen)


async def send(client: AsyncClient, pictures: list[bytes], calls: int, in_flight: int) -> None:
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await client.embed_images([pictures[number % len(pictures)]])

    await asyncio.gather(*(caller() for _ in range(in_flight)))


def gateway_process() -> int:
    """The id of the gateway's process: a child of the service, which is a child of this program."""
    rows = [line.split(maxsplit=2) for line in ps("-A", "-o", "pid=,ppid=,args=").splitlines()]
    services = {pid for pid, parent, _ in rows if parent == str(os.getpid())}
    [found] = [pid for pid, parent, command in rows if parent in services and "gateway" in command.split()]
    return int(found)


def memory_mb(process: int) -> float:
    """Resident memory in units of 1,000,000 bytes."""
    return int(ps("-o", "rss=", "-p", str(process))) * 1024 / 1e6


def ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
