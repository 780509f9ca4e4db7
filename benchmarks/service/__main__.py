"""`make bench`: measures the service, and writes the report with its plots and numbers."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.service.charts import draw
from benchmarks.service.large import write_large
from benchmarks.service.report import markdown
from benchmarks.service.run import Results, run_demo, run_large

CHECKPOINT = Path("checkpoints/shapes").resolve()
LARGE_TIMES = 3  # a large model answers so seldom that a short span would count too few
LARGE_ROUNDS_MORE = 2  # and a disturbance of a second is a larger share of what it answers


def main() -> int:
    arguments = parse_arguments()
    results = Results(arguments.seconds)
    print(results.machine, flush=True)
    asyncio.run(measure(results, arguments))
    for bar in results.bars:
        print(f"{'met' if bar.met else 'MISSED':<7} {bar.what}: {bar.found:.2f}, {bar.wanted}")
    for name, why in results.missing_peers.items():
        print(f"{name}: {why}")
    write(results, arguments.out)
    print(f"written: {arguments.out}/report.md")
    return 0 if all(bar.met for bar in results.bars) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement [%(default)g]")
    parser.add_argument("--rounds", type=int, default=5, help="of limits and service in turns [%(default)d]")
    parser.add_argument("--no-large", action="store_true", help="leave base-patch16-224 out")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="[%(default)s]")
    return parser.parse_args()


async def measure(results: Results, arguments: argparse.Namespace) -> None:
    def say(line: str) -> None:
        print(line, flush=True)

    await run_demo(results, CHECKPOINT, arguments.rounds, say)
    if not arguments.no_large:
        with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as folder:
            large = write_large(Path(folder) / "base-patch16-224", CHECKPOINT)
            rounds = arguments.rounds + LARGE_ROUNDS_MORE
            await run_large(results, large, LARGE_TIMES * arguments.seconds, rounds, say)


def write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    (folder / "report.md").write_text(markdown(results))
    for name, picture in draw(results).items():
        picture.save(folder / name)


if __name__ == "__main__":
    sys.exit(main())
