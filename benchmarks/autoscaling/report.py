"""Writes docs/benchmarks/autoscaling.md and its plots."""

from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.autoscaling import day as simulated
from benchmarks.autoscaling import real
from benchmarks.autoscaling.day import Day
from benchmarks.autoscaling.real import Run
from benchmarks.plot import Line, beside, plot

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"


def write(day: Day, run: Run) -> None:
    hours = [minute / 60 for minute in range(len(day.replicas))]
    beside(
        plot("A day", "hours", "calls/s", [Line("offered", list(zip(hours, day.offered, strict=True)))]),
        plot("Workers", "hours", "replicas", [Line("replicas", list(zip(hours, day.replicas, strict=True)))]),
    ).save(FOLDER / "autoscaling-day.png")
    beside(
        plot(
            "Calls to real processes",
            "seconds",
            "",
            [Line("calls/s offered", run.offered), Line("entries in the queue", run.entries)],
        ),
        plot("Workers", "seconds", "replicas", [Line("replicas", run.replicas)]),
    ).save(FOLDER / "autoscaling-real.png")
    (FOLDER / "autoscaling.md").write_text(_page(day, run))


def of_day(day: Day) -> str:
    rule = simulated.RULE
    whole_s = simulated.DAY_S * rule.max_replicas
    return (
        f"{day.calls:,} calls, {day.late} failed; from call to answer {_quantile(day, 0.5):.2f} s in the "
        f"median, {_quantile(day, 0.99):.2f} s at p99, {max(day.waits_s):.1f} s at most; "
        f"{max(day.replicas)} workers at most, {day.turns} turns, {day.worker_s / 3600:.0f} worker hours "
        f"({day.worker_s / whole_s:.0%} of {rule.max_replicas} all day)"
    )


def of_run(run: Run) -> str:
    errors = ", ".join(f"{count} {code}" for code, count in sorted(run.errors.items())) or "no errors"
    most = max(count for _, count in run.replicas)
    return (
        f"{run.answered:,} of {run.sent:,} calls answered, {errors}; 0 to {most} workers, "
        f"to zero {run.slept} times"
    )


def _quantile(day: Day, share: float) -> float:
    return float(np.quantile(day.waits_s, share))


def _page(day: Day, run: Run) -> str:
    rule, quick = simulated.RULE, real.RULE
    return f"""# Autoscaling

Made by `make bench-autoscaling`. Workers are added and removed by the length of their tower's stream, as a
KEDA ScaledObject does it: `ceil(entries / {rule.entries_per_worker})` workers, zero of them when nothing
came for {rule.cooldown_s:g} s, at most {rule.down_share:.0%} of them fewer in {rule.down_period_s:g} s.
These are the numbers that [the chart](../deployment.md#autoscaling) gives to KEDA; sync, tolerance and the
limits of growth in [the formula](../../benchmarks/autoscaling/keda.py) are those of Kubernetes.

## A day, simulated

A worker computes {simulated.BATCH_ENTRIES} entries of one picture in {simulated.BATCH_S:g} s and is ready
{simulated.START_S:g} s after it was asked for. The day's curve is made up: silence, a morning that begins
at once, two bursts to more than twice the load, an evening that fades. Calls come by chance and have
{simulated.DEADLINE_S:g} s.

{of_day(day)}.

![Calls a second and workers over a day](autoscaling-day.png)

A burst is answered later, not refused: it finds as many workers as were needed before it, and the next
ones a sync ({rule.sync_s:g} s) and a start later. Where that is too slow, keep a worker more
(`minReplicas`), or ask for more with fewer entries. After a silence the first call waits for a look of
KEDA (up to {rule.polling_interval_s:g} s) and a start; clients need a deadline above that, and gateways
`--no-worker-timeout-s` above the longest silence, else calls fail at once and nothing ever wakes a worker.

## Real processes, in fast motion

The same rule with seconds for minutes (sync {quick.sync_s:g} s, stabilization and cooldown
{quick.cooldown_s:g} s) reads the real stream and starts and drains real workers around a stand-in for the
model, under a real gateway.

{of_run(run)}.

![Calls, queue and workers over time](autoscaling-real.png)

```text
{machine.describe()}
```
"""
