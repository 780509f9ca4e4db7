"""The model library against transformers: forward passes, loading, importing, and lines to read.

base-patch16-224 with random weights in float32 on the CPU, both with sdpa, in turns on the same inputs.
With a GPU also so400m-patch14-384 in half precision. Ends with status 1 when a bar is not met.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, model_on_gpu
from benchmarks.interleaved import Timed, in_turns
from benchmarks.model_sizes import flops, inputs, load_reference, write_random
from siglip_model import SiglipModel

SIZE = "base-patch16-224"
BATCHES = (1, 16)
FORWARD_BAR = 1.0  # of the reference's time; the machine's noise is larger than what there may be
LOAD_BAR = 0.5
IMPORT_BAR_S = 1.5
OURS, THEIRS = "siglip_model", "transformers"
IMPORTS = {
    OURS: "from siglip_model import SiglipModel",
    THEIRS: "from transformers import SiglipModel",
    "torch alone": "import torch",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30, help="for each measurement [%(default)g]")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="rows of a pass [1 16]")
    arguments = parser.parse_args()
    print(machine.describe())
    print(f"          transformers {version('transformers')}, {torch.get_num_threads()} threads")
    met = [importing()]
    with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as temporary:
        folder = write_random(SIZE, Path(temporary))
        met.append(loading(folder, arguments.seconds))
        met += [
            forward(folder, tower, batch, arguments.seconds)
            for tower in ("text", "vision")
            for batch in arguments.batches
        ]
    lines()
    model_on_gpu.main(arguments.seconds)
    return 0 if all(met) else 1


def importing() -> bool:
    print("\nimport in a fresh interpreter")
    calls = {name: partial(run_python, program) for name, program in IMPORTS.items()}
    timed = in_turns(calls, budget_s=0)
    for name in IMPORTS:
        print(f"  {name:<14} {timed.median_s(name):.2f} s, fastest {min(timed.seconds[name]):.2f} s")
    met = timed.median_s(OURS) < IMPORT_BAR_S
    return told(f"below {IMPORT_BAR_S} s", met)


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def loading(folder: Path, budget_s: float) -> bool:
    """The files lie in the system's memory. Both map them, so the weights come when they are first read."""
    loaders: dict[str, Callable[[], Any]] = {
        OURS: partial(SiglipModel.from_pretrained, folder),
        THEIRS: partial(load_reference, folder, "sdpa", torch.float32),
    }

    def load_and_read(load: Callable[[], Any]) -> None:
        for weight in load().parameters():
            weight.detach().sum()

    print(f"\nload {SIZE}, 813 MB in float32")
    timed = in_turns(loaders, budget_s / 2)
    report(timed)
    met = timed.ratios(OURS, THEIRS)[1] <= LOAD_BAR
    told(f"at most {LOAD_BAR} of the reference's time", met)
    print("  load and read all weights")
    report(in_turns({name: partial(load_and_read, load) for name, load in loaders.items()}, budget_s / 2))
    return met


def forward(folder: Path, tower: str, batch: int, budget_s: float) -> bool:
    ours, theirs = SiglipModel.from_pretrained(folder), load_reference(folder, "sdpa", torch.float32)
    given = inputs(ours.config, tower, batch)
    kind = "text_model" if tower == "text" else "vision_model"
    print(f"\nforward of {batch} {'texts' if tower == 'text' else 'pictures'}, {SIZE}")
    with torch.inference_mode():
        mine, wanted = (model.get_submodule(kind)(given).pooler_output for model in (ours, theirs))
        calls = {
            OURS: partial(ours.get_submodule(kind), given),
            THEIRS: partial(theirs.get_submodule(kind), given),
        }
        timed = in_turns(calls, budget_s)
    report(timed)
    rate = batch * flops(ours.config, tower) / timed.median_s(OURS) / 1e9
    print(f"  {rate:.0f} GFLOP/s; largest difference of the pooled vectors {(mine - wanted).abs().max():.1e}")
    quarter_of_turns = timed.ratios(OURS, THEIRS)[0]
    return told(
        "not slower than the reference in a quarter of the turns or more", quarter_of_turns <= FORWARD_BAR
    )


def report(timed: Timed) -> None:
    for name, seconds in timed.seconds.items():
        print(
            f"  {name:<14} median {1000 * timed.median_s(name):.1f} ms, "
            f"fastest {1000 * min(seconds):.1f} ms, {len(seconds)} times"
        )
    low, middle, high = timed.ratios(OURS, THEIRS)
    print(f"  ratio          {middle:.3f}, quartiles {low:.3f} to {high:.3f}")


def told(bar: str, met: bool) -> bool:
    print(f"  bar: {bar}: {'met' if met else 'NOT MET'}")
    return met


def lines() -> None:
    program = f"{IMPORTS[OURS]}\nimport sys\nfor m in sys.modules.values():\n  n = m.__name__\n"
    program += "  if n.startswith('siglip_model'): print(m.__file__)"
    files = [Path(path) for path in run_python(program).split()]
    counts = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    print(f"\nlines of what SiglipModel imports: {sum(counts.values())}")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda c: -c[1])))


if __name__ == "__main__":
    sys.exit(main())
