"""The bars, and what was measured against each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.service.peers import INFINITY
from benchmarks.service.rounds import Round

Found = Callable[[Round], float]


@dataclass(frozen=True)
class Bar:
    """`found` is the median of the rounds, between the lowest and the highest of them."""

    what: str
    wanted: str
    found: float
    low: float
    high: float
    met: bool

    def as_json(self) -> dict[str, Any]:
        return vars(self)


def cost_us(found: Round, kind: str) -> dict[str, float]:
    """CPU time of one item of a stream in each part alone."""
    parts = {"RPC": f"rpc stream {kind}", "queue": f"queue {kind}"}
    parts |= {"decoding": "decode"} if kind == "image" else {}
    parts |= {"worker": f"model {kind}"}
    return {name: found.units[unit].cpu_us for name, unit in parts.items()}


def of_demo(rounds: Sequence[Round], text_rounds: Sequence[Round], cores: int) -> list[Bar]:
    def added_up(found: Round) -> float:
        return found.service["stream image"].rate / (cores * 1e6 / sum(cost_us(found, "image").values()))

    def of_unit(service: str, unit: str) -> Found:
        return lambda found: found.service[service].rate / found.units[unit].rate

    def texts(found: Round) -> float:
        stream = found.service["stream text"].rate
        return max(stream / 8000, stream / found.units["model text"].rate / 0.5)

    def called(found: Round) -> float:
        return found.service["unary text"].rate

    texts_bar = "half of the model alone, or 8,000 a second"
    bars = [
        _at_least("images by EmbedStream / what the unit costs add up to", 0.9, rounds, added_up),
        _at_least("images by EmbedStream / decoding alone", 0.6, rounds, of_unit("stream image", "decode")),
        _at_least(f"texts by EmbedStream / {texts_bar}", 1.0, rounds, texts),
        _at_least(f"the same with a text worker for each core / {texts_bar}", 1.0, text_rounds, texts),
        _at_least("texts a second, one a call, 32 in flight", 1000, rounds, called),
        _at_most("their p99 in ms", 60, rounds, lambda r: r.service["unary text"].latency_ms["p99"]),
        _at_least(
            "classification with labels that repeat / images one a call",
            0.9,
            rounds,
            lambda r: r.service["classify"].rate / r.service["unary image"].rate,
        ),
    ]
    if f"{INFINITY} image" in rounds[0].peers:
        bars.append(
            _at_least(
                "images one a call / Infinity's",
                2.0,
                rounds,
                lambda r: r.service["unary image"].rate / r.peers[f"{INFINITY} image"].rate,
            )
        )
    return bars


def of_large(rounds: Sequence[Round]) -> list[Bar]:
    return [
        _at_least(
            f"base-patch16-224: {kind}s by EmbedStream / the model alone",
            0.95,
            rounds,
            lambda r, kind=kind: r.service[f"stream {kind}"].rate / r.units[f"model {kind}"].rate,  # type: ignore[misc]
        )
        for kind in ("image", "text")
    ]


def _at_least(what: str, bar: float, rounds: Sequence[Round], found: Found) -> Bar:
    values = [found(each) for each in rounds]
    middle = median(values)
    return Bar(what, f"at least {bar:,g}", middle, min(values), max(values), middle >= bar)


def _at_most(what: str, bar: float, rounds: Sequence[Round], found: Found) -> Bar:
    values = [found(each) for each in rounds]
    middle = median(values)
    return Bar(what, f"at most {bar:,g}", middle, min(values), max(values), middle <= bar)
