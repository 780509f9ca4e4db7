"""Writes docs/benchmarks/scaling.md, its numbers and its plot."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine
from benchmarks.plot import Line, beside, plot
from benchmarks.scaling.plan import BATCH_ROWS, BATCH_S, RATE_OF_ONE, Step, share

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"
LEAST_SHARE = 0.95


def write(steps: list[Step], seconds: float) -> None:
    slow = [step for step in steps if step.batch_s and step.gateways == step.shards == 1]
    line = Line("measured", [(0, 0), *((step.workers, step.rate) for step in slow)])
    ideal = Line("as many times one", [(0, 0), *((s.workers, s.workers * slow[0].rate) for s in slow)])
    busy = [
        Line(name, [(step.workers, step.cores.get(name, 0.0)) for step in slow])
        for name in ("gateway", "queue", "text worker", "client")
    ]
    rates = plot("Texts a second", "workers", "texts/s", [ideal, line])
    beside(rates, plot("Busy cores", "workers", "cores", busy)).save(FOLDER / "scaling.png")
    (FOLDER / "scaling.json").write_text(json.dumps([asdict(step) for step in steps], indent=1) + "\n")
    (FOLDER / "scaling.md").write_text(_page(steps, seconds))


def told(steps: list[Step]) -> str:
    return "met" if verdict(steps) else "NOT MET"


def row(step: Step, one: Step) -> str:
    """Of the table: a worker that takes no time has no share."""
    part = f"{share(step, one):.2f}" if step.batch_s else ""
    cores = [step.cores.get(name, 0.0) for name in ("gateway", "queue", "text worker", "client")]
    numbers = [f"{step.rate:,.0f}", part, *(f"{each:.2f}" for each in cores)]
    kind = f"{step.workers}" if step.batch_s else f"{step.workers} that take no time"
    return "| " + " | ".join([kind, str(step.gateways), str(step.shards), *numbers]) + " |"


def _page(steps: list[Step], seconds: float) -> str:
    table = "\n".join(row(step, steps[0]) for step in steps)
    return f"""# Scaling

Made by `make bench-scaling`. Workers are real but for the model: a stand-in takes {BATCH_S:g} s for
each batch of {BATCH_ROWS} texts, {RATE_OF_ONE:.0f} texts a second, without using the processor, so that
eight of them fit on a machine with few cores. Gateways, queue and client are real and share these cores.
Each gateway has one stream of texts that never ends; figures are of {seconds:g} s after a while to settle.
`share` is the rate against as many times the first line's; shards are queues on the nodes of a Redis
Cluster, whose six servers run here, too.

```text
{machine.describe()}
```

| workers | gateways | shards | texts/s | share | gateway, cores | queue | workers | client |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

![Rates and busy cores over workers](scaling.png)

Bar: a share of at least {LEAST_SHARE:g} up to eight workers while gateway and queue together take less than
half a core: {told(steps)}.
"""


def verdict(steps: list[Step]) -> bool:
    """Whether the bar is met wherever it holds."""
    held = [step for step in steps if step.batch_s and step.transport_cores < 0.5]
    return bool(held) and all(share(step, steps[0]) >= LEAST_SHARE for step in held)
