"""Writes docs/capacity.md."""

from pathlib import Path

from benchmarks import machine
from benchmarks.capacity.costs import PIXEL_BYTES, Costs
from benchmarks.capacity.need import BUSY, GATEWAY_CORES, Need, need, workers

FILE = Path(__file__).parents[2] / "docs" / "capacity.md"
RATES = (1_000, 10_000, 100_000)
# Images a second of one worker: the second is what a GPU may do; measure yours.
WORKER_RATES = (100, 1_000, 4_000)


def write(costs: Costs) -> None:
    FILE.write_text(_page(costs))


def _row(found: Need) -> str:
    gigabits = (found.jpeg_bytes_a_second * 8 / 1e9, found.queue_bytes_a_second * 8 / 1e9)
    cells = [
        f"{found.rate:,.0f}",
        f"{found.front_cores:,.0f}",
        f"{found.gateways:,}",
        f"{found.shards:,}",
        *(f"{each:,.1f}" for each in gigabits),
        *(f"{workers(found.rate, each):,}" for each in WORKER_RATES),
    ]
    return "| " + " | ".join(cells) + " |"


def _table(costs: Costs) -> str:
    heads = [
        "images/s",
        "gateway cores",
        f"gateways of {GATEWAY_CORES} cores",
        "shards",
        "JPEG Gbit/s",
        "queue Gbit/s",
        *(f"workers of {each:,}/s" for each in WORKER_RATES),
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(_row(need(costs, rate)) for rate in RATES)])


def _page(costs: Costs) -> str:
    first = need(costs, 1_000)
    return f"""# How much of each

Made by `make capacity` from what one image costs here. Figures are of JPEG files of 640x480 pixels and
{costs.jpeg_bytes / 1000:.0f} KB, a checkpoint of 224 pixels, and streams; run it on your machine. Decoding is
most of it, and grows with the pixels of a file.

```text
{machine.describe()}
```

| what one image costs | CPU time |
| --- | --- |
| gateway: the call, the queue, the answer | {costs.gateway_us:,.0f} µs |
| its decoding processes | {costs.decoding_us:,.0f} µs |
| the queue's server, {PIXEL_BYTES:,} bytes in and out | {costs.queue_us:,.0f} µs |

{_table(costs)}

## The arithmetic

Nothing is planned to be busy for more than {BUSY:.0%} of the time.

- **Gateway cores** = images/s x ({costs.gateway_us:,.0f} + {costs.decoding_us:,.0f}) µs / {BUSY:g}. For 1,000
  images/s: {1000 * costs.front_us / 1e6:.1f} / {BUSY:g} = {first.front_cores:.1f} cores.
- **Gateways**: as many as these cores need, and as many as the event loop of each allows, which sees to
  {BUSY * 1e6 / costs.gateway_us:,.0f} images/s at most. Clients that prepare pixels themselves
  (`siglip embed --decode client`, `PixelsItem`) take the decoding away and leave the loop.
- **Shards** (`--redis-shards`, on the nodes of a cluster; a server has one thread for commands) = images/s x
  {costs.queue_us:,.0f} µs / {BUSY:g}. The setting allows 8: above that, run several deployments beside each
  other, each with its own queue, and let clients or Envoy spread calls over them.
- **Network of the queue** = images/s x {PIXEL_BYTES:,} bytes x 2: each image goes into the queue and comes
  out. At 10,000 images/s that is more than a link of 10 Gbit/s: put shards on several hosts, or gateways and
  workers on the hosts of their shard.
- **Workers** = images/s / images/s of one / {BUSY:g}. What one does `siglip top` and the metric of rows show
  under load; [the benchmark](benchmarks/report.md) has it for CPUs here, and no GPU has been measured.
- **Memory of the queue** holds what waits, not what was computed: at most `--queue-max-entries` entries of 8
  images a tower and class, {512 * 8 * PIXEL_BYTES / 2**20:,.0f} MiB with the default of 512.

A text is {64 * 4} bytes in the queue, its vector 4 bytes a dimension (3 KB for 768), and it costs a gateway
well below a tenth of an image: with texts the workers are nearly all that counts.

These are sums of parts. [Scaling](benchmarks/scaling.md) shows how far real processes add up.
"""
