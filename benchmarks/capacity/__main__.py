"""Measures what one image costs, and writes docs/capacity.md."""

import argparse
import sys

from benchmarks import machine
from benchmarks.capacity import page
from benchmarks.capacity.costs import measure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    print(machine.describe())
    costs = measure(parser.parse_args().seconds)
    print(
        f"CPU microseconds an image: gateway {costs.gateway_us:.0f}, decoding {costs.decoding_us:.0f}, "
        f"queue {costs.queue_us:.0f}; {costs.rate:.0f} images/s meanwhile"
    )
    page.write(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
