"""The pictures of the report."""

from collections.abc import Mapping
from statistics import median

from PIL import Image

from benchmarks.plot import Line, below, beside, plot
from benchmarks.service import bars, plan
from benchmarks.service.rounds import Round
from benchmarks.service.run import Cells, Results
from benchmarks.service.stacks import Stack, stacks


def draw(results: Results) -> dict[str, Image.Image]:
    """By the names of their files."""
    return {
        "throughput.png": beside(_rates(results, "text"), _rates(results, "image")),
        "latency.png": beside(_latencies(results.cells), _open_latencies(results.cells)),
        "cpu.png": _cpu(results),
    }


def middle(rounds: list[Round], part: str, name: str, attribute: str = "rate") -> float:
    return float(median(getattr(getattr(each, part)[name], attribute) for each in rounds))


def _rates(results: Results, kind: str) -> Image.Image:
    limits = {f"model {kind}": "the model alone"}
    limits |= {"decode": "decoding alone"} if kind == "image" else {}
    wanted = {kind, "classify"} if kind == "image" else {kind}
    lines = [
        Line(series, [(cell.in_flight, found.rate) for cell, found in group if cell.in_flight])
        for series, group in _by_series(results.cells).items()
        if group[0][0].kind in wanted
    ]
    across = (0, max(plan.IN_FLIGHT))
    lines += [
        Line(name, [(x, middle(results.rounds, "units", unit)) for x in across])
        for unit, name in limits.items()
    ]
    lines += [
        Line(f"{name.rpartition(' ')[0]}, 32 in flight", [(32, middle(results.rounds, "peers", name))])
        for name in results.rounds[0].peers
        if name.endswith(kind)
    ]
    title = "Texts a second" if kind == "text" else "Images a second (640x480 JPEG)"
    return plot(title, "in flight", "items/s", lines)


def _latencies(cells: Cells) -> Image.Image:
    lines = [
        Line(series, [(cell.in_flight, found.latency_ms["p99"]) for cell, found in group if cell.in_flight])
        for series, group in _by_series(cells).items()
    ]
    return plot("Closed loop: p99", "in flight", "ms", lines)


def _open_latencies(cells: Cells) -> Image.Image:
    lines = [
        Line(series, [(100 * cell.share, found.latency_ms["p99"]) for cell, found in group if cell.share])
        for series, group in _by_series(cells).items()
    ]
    return plot("Poisson arrivals: p99", "% of the highest rate", "ms", lines)


def _by_series(cells: Cells) -> Mapping[str, Cells]:
    found: dict[str, Cells] = {}
    for cell, measured in cells:
        found.setdefault(cell.series, []).append((cell, measured))
    return found


def _cpu(results: Results) -> Image.Image:
    # Images and texts differ too much for one scale.
    return below(_cpu_of(results, "image"), _cpu_of(results, "text"))


def _cpu_of(results: Results, kind: str) -> Image.Image:
    units = [bars.cost_us(each, kind) for each in results.rounds]
    rows = [
        Stack("its parts alone", {name: median(each[name] for each in units) for name in units[0]}),
        Stack("EmbedStream", cpu_us(results.rounds, f"stream {kind}")),
        Stack(f"one {kind} a call", cpu_us(results.rounds, f"unary {kind}")),
    ]
    order = ["RPC", "client", "gateway", "queue", "decoding", "worker"]
    return stacks(f"CPU time of one {kind}", "microseconds", rows, order)


def cpu_us(rounds: list[Round], name: str) -> dict[str, float]:
    """Of each process for one item, the median of the rounds; small ones are left out."""
    found = [_short(each.service[name].cpu_us) for each in rounds]
    names = dict.fromkeys(process for each in found for process in each)
    middles = {process: median(each.get(process, 0.0) for each in found) for process in names}
    return {process: us for process, us in middles.items() if us > 0.005 * sum(middles.values())}


def _short(cpu_us: Mapping[str, float]) -> dict[str, float]:
    """A worker is a worker here: only one of them has to do with an item."""
    found: dict[str, float] = {}
    for process, us in cpu_us.items():
        name = "worker" if process.endswith(" worker") else process
        found[name] = found.get(name, 0.0) + us
    return found
