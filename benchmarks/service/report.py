"""What was measured, as Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.service import bars
from benchmarks.service.charts import cpu_us, middle
from benchmarks.service.peers import INFINITY, NAIVE
from benchmarks.service.run import Cells, Results
from benchmarks.service.unit import summed

INTRODUCTION = """\
# The service under load

Made by `make bench`; the numbers are in [results.json](results.json), and what stands in the way of the bars
that are missed is in [analysis.md](analysis.md). Load generator, service and all other servers share the same
cores. No two texts or pictures of a run are equal, so no cache of vectors ever answers. Latencies are the
client's; in the open loop (Poisson arrivals) they count from when a call was due. A rate goes from the last
answer before the span to the last one in it. Images are JPEG files of 640x480 pixels and about 80 KB,
classification is of one image with 8 labels that stay the same.
"""


def markdown(results: Results) -> str:
    parts = [
        INTRODUCTION,
        f"```text\n{results.machine}\n```",
        f"Each figure is of {results.seconds:g} s, after a while to settle.",
        "## Bars",
        f"The median of {len(results.rounds)} rounds, and the lowest and the highest. In a round the "
        "limits, the service and the other servers take turns.",
        _bars(results),
        "## What the parts can do alone",
        "Demo checkpoint `shapes`, all cores, median of the rounds. An RPC's CPU time is that of both ends.",
        _units(results),
        "![CPU time by process](cpu.png)",
        _cpu(results),
        "## Other servers",
        "The same checkpoint, machine and generator, 32 calls in flight, each with one item.",
        _peers(results),
        "## Demo checkpoint, call by call",
        "![Rates](throughput.png)\n\n![Latencies](latency.png)",
        _cells(results.cells),
    ]
    if results.large_rounds:
        parts += [
            "## base-patch16-224, random weights",
            f"One worker for each tower, with {results.cores} threads each; only one tower is ever busy.",
            _large(results),
            _cells(results.large_cells),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _bars(results: Results) -> str:
    rows = [
        [
            bar.what,
            bar.wanted,
            _number(bar.found),
            f"{_number(bar.low)} to {_number(bar.high)}",
            _met(bar.met),
        ]
        for bar in results.bars
    ]
    if not any(INFINITY in bar.what for bar in results.bars):
        rows.append(["images one a call / Infinity's", "at least 2", "not measured", "", ""])
    return _table(["", "bar", "found", "rounds", ""], rows)


def _units(results: Results) -> str:
    rounds = results.rounds
    rows = [
        [
            name,
            _number(middle(rounds, "units", name)),
            _number(middle(rounds, "units", name, "cpu_us")),
            unit.told,
        ]
        for name, unit in rounds[-1].units.items()
    ]
    return _table(["", "items/s", "CPU µs an item", ""], rows)


def _cpu(results: Results) -> str:
    rows = []
    for kind in ("image", "text"):
        parts = median(sum(bars.cost_us(each, kind).values()) for each in results.rounds)
        for way in ("stream", "unary"):
            found = cpu_us(results.rounds, f"{way} {kind}")
            shares = ", ".join(f"{name} {us:,.0f}" for name, us in found.items())
            rows.append([f"{way} {kind}", _number(parts), _number(summed(found)), shares])
    return _table(["CPU µs an item", "parts alone", "service", "of which"], rows)


def _peers(results: Results) -> str:
    rows = []
    for kind, noun in (("image", "images"), ("text", "texts")):
        ours = middle(results.rounds, "service", f"unary {kind}")
        rows.append([f"this service, {noun}", _number(ours), _p99(results, "service", f"unary {kind}"), ""])
        for name in (NAIVE, INFINITY):
            key = f"{name} {kind}"
            if key in results.rounds[0].peers:
                rate = middle(results.rounds, "peers", key)
                ratio = f"{ours / rate:.1f}" if rate else "nothing answered"
                rows.append([f"{name}, {noun}", _number(rate), _p99(results, "peers", key), ratio])
    rows += [[name, why, "", ""] for name, why in results.missing_peers.items()]
    note = (
        "\n\nInfinity pads texts otherwise than SigLIP was trained with, and so has less to compute there."
        if INFINITY not in results.missing_peers
        else ""
    )
    return _table(["", "items/s", "p50, p99 in ms", "this service / it"], rows) + note


def _p99(results: Results, part: str, name: str) -> str:
    found = [getattr(each, part)[name].latency_ms for each in results.rounds]
    return ", ".join(f"{median(each[p] for each in found):.0f}" for p in ("p50", "p99"))


def _large(results: Results) -> str:
    rows = [
        [
            f"{kind}s",
            _number(middle(results.large_rounds, "units", f"model {kind}")),
            _number(middle(results.large_rounds, "service", f"stream {kind}")),
            results.large_rounds[-1].units[f"model {kind}"].told,
        ]
        for kind in ("image", "text")
    ]
    return _table(["items/s", "the model alone", "EmbedStream", "the model alone has"], rows)


def _cells(cells: Cells) -> str:
    rows = []
    for cell, found in cells:
        errors = ", ".join(f"{count} {name}" for name, count in found.errors.items())
        latencies = [f"{value:,.1f}" for value in found.latency_ms.values()]
        client = found.cpu_us.get("client", 0.0)
        cpu = [_number(summed(found.cpu_us) - client), _number(client)]
        rows.append([cell.series, cell.load, _number(found.rate), *latencies, *cpu, errors])
    names = ["", "load", "items/s", "p50 ms", "p90 ms", "p99 ms", "CPU µs, service", "client", "errors"]
    return _table(names, rows)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
