"""Round trip of one text and of one image with one call in flight, against the model alone.

Starts `siglip serve` (queue, gateway, text worker and vision worker as separate processes), then takes
turns between calls over gRPC and forward passes of the same model in a process of its own, so that both
meet the same machine. The overhead is the difference of their medians. Ends with status 1 when the
overhead of a text is above the bar.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.model_alone import ModelAlone, Tower
from benchmarks.pictures import photo
from examples.local_service import local_service
from siglip_client import Client, Embeddings, Timing
from siglip_settings.cores import usable_cores
from tests.support.checkpoints import write_tiny_checkpoint

BAR_MS = 4.0
TURNS = 10
WARM_UPS = 50
PICTURES = 32
STAGES = ("decode_us", "queue_us", "compute_us", "total_us")

Call = Callable[[int], Embeddings]


@dataclass
class Measured:
    round_trips_s: list[float] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    model_s: list[float] = field(default_factory=list)

    def overhead_ms(self) -> float:
        return 1000 * (float(np.median(self.round_trips_s)) - float(np.median(self.model_s)))


def main() -> int:
    arguments = parse_arguments()
    threads = arguments.threads or max(1, usable_cores() // 2)
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as temporary:
        folder = arguments.model or write_tiny_checkpoint(Path(temporary) / "tiny")
        options = ["--device", "cpu", "--threads", str(threads), "--log-level", "warning"]
        options += ["--cache-bytes", "0"]
        with (
            local_service(str(folder), Path(temporary) / "run", *options) as address,
            ModelAlone(folder, threads) as alone,
            Client(address) as client,
        ):
            print(f"model     {folder.name}, float32 on CPU, {threads} threads per worker")
            text, image = measure_both(client, alone, arguments.requests)
    report("one text", text)
    report("one 640 x 480 JPEG", image)
    met = text.overhead_ms() <= arguments.bar_ms
    print(f"\nbar: a text's overhead is at most {arguments.bar_ms:g} ms: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="checkpoint folder [a tiny random one]")
    parser.add_argument("--requests", type=int, default=1000, help="of each kind [%(default)s]")
    parser.add_argument("--threads", type=int, default=0, help="of each worker [half of the cores]")
    parser.add_argument("--bar-ms", type=float, default=BAR_MS, help="[%(default)s]")
    return parser.parse_args()


def measure_both(client: Client, alone: ModelAlone, requests: int) -> tuple[Measured, Measured]:
    pictures = [photo(seed) for seed in range(PICTURES)]
    text = measure(lambda i: client.embed_texts([f"a photo of object {i}"]), alone, "text", requests)
    image = measure(lambda i: client.embed_images([pictures[i % PICTURES]]), alone, "vision", requests)
    return text, image


def measure(call: Call, alone: ModelAlone, tower: Tower, requests: int) -> Measured:
    for number in range(WARM_UPS):
        call(number)
    alone.seconds(tower, 1)
    measured = Measured()
    for turn in range(TURNS):
        numbers = range(turn * requests // TURNS, (turn + 1) * requests // TURNS)
        for number in numbers:
            start = time.perf_counter()
            answer = call(number)
            measured.round_trips_s.append(time.perf_counter() - start)
            measured.timings.append(answer.timing)
        measured.model_s += alone.seconds(tower, len(numbers))
    return measured


def report(name: str, measured: Measured) -> None:
    print(f"\n{name}, one call in flight, {len(measured.round_trips_s)} calls")
    print(f"  round trip   {quantiles(measured.round_trips_s)}")
    print(f"  model alone  {quantiles(measured.model_s)}")
    medians = {stage: np.median([getattr(t, stage) for t in measured.timings]) / 1000 for stage in STAGES}
    told = ", ".join(f"{stage.removesuffix('_us')} {ms:.2f} ms" for stage, ms in medians.items())
    print(f"  p50 of what the service tells: {told}")
    print(f"  overhead     p50 {measured.overhead_ms():.2f} ms (round trip - model alone)")


def quantiles(seconds: list[float]) -> str:
    p50, p99 = 1000 * np.percentile(seconds, [50, 99])
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
