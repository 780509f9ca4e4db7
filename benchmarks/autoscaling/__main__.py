"""Workers by the length of the queue, simulated and for real. Writes docs/benchmarks/autoscaling.md."""

import sys

from benchmarks import machine
from benchmarks.autoscaling import real, report
from benchmarks.autoscaling.day import simulate

MOST_TURNS = 24 * 6


def main() -> int:
    print(machine.describe())
    day = simulate()
    print(f"a day, simulated: {report.of_day(day)}", flush=True)
    run = real.run()
    print(f"real processes: {report.of_run(run)}")
    report.write(day, run)
    met = day.late == 0 and day.turns <= MOST_TURNS and run.answered == run.sent and run.slept >= 2
    print(f"bars: no call lost, at most six turns an hour, to zero and back: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
