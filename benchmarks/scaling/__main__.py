"""How throughput grows with workers, gateways and shards. Writes docs/benchmarks/scaling.md."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.scaling import report
from benchmarks.scaling.fleet import fleet
from benchmarks.scaling.load import measure
from benchmarks.scaling.plan import plan
from tests.support.checkpoints import write_tiny_checkpoint


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each step, beside settling")
    seconds: float = parser.parse_args().seconds
    print(machine.describe())
    print("| workers | gateways | shards | texts/s | share | gateway, cores | queue | workers | client |")
    steps = plan()
    with tempfile.TemporaryDirectory(prefix="siglip-scaling-") as folder:
        model = write_tiny_checkpoint(Path(folder) / "tiny")
        for number, step in enumerate(steps):
            place = Path(folder) / str(number)
            place.mkdir()
            with fleet(step, model, place) as addresses:
                measure(step, addresses, seconds)
            print(report.row(step, steps[0]), flush=True)
    report.write(steps, seconds)
    print(f"bar: a share of at least {report.LEAST_SHARE:g}: {report.told(steps)}")
    return 0 if report.verdict(steps) else 1


if __name__ == "__main__":
    sys.exit(main())
