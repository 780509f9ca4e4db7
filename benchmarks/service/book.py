"""What became of the calls of one measurement, and what follows from it."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# All numbers of a run, so that no two items of it are equal.
NUMBERS: Iterator[int] = itertools.count()
PERCENTILES = (50, 90, 99)


@dataclass
class Book:
    """Times by `time.monotonic()`. `ending`: begin nothing more."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each was due, and when it was answered."""
    errors: Counter[str] = field(default_factory=Counter)
    ending: bool = False

    def answered(self, due_s: float) -> None:
        self.answers.append((due_s, time.monotonic()))

    def failed(self, error: object) -> None:
        code = getattr(error, "code", None)
        self.errors[getattr(code, "name", None) or type(error).__name__] += 1


@dataclass(frozen=True)
class Measured:
    """`cpu_us`: of each process for each answer."""

    rate: float
    answers: int
    seconds: float
    latency_ms: Mapping[str, float]
    cpu_us: Mapping[str, float]
    errors: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return vars(self)


def measured(book: Book, begun_s: float, ended_s: float, cpu_s: Mapping[str, float]) -> Measured:
    """Of the answers that came between the two times."""
    within = [(due, done) for due, done in book.answers if begun_s < done <= ended_s]
    latencies = np.array([done - due for due, done in within]) * 1000
    quantiles = np.percentile(latencies, PERCENTILES) if within else [float("nan")] * len(PERCENTILES)
    return Measured(
        rate=rate(sorted(done for _, done in book.answers), begun_s, ended_s),
        answers=len(within),
        seconds=ended_s - begun_s,
        latency_ms={f"p{p}": float(value) for p, value in zip(PERCENTILES, quantiles, strict=True)},
        cpu_us={name: 1e6 * spent / max(1, len(within)) for name, spent in cpu_s.items()},
        errors=dict(book.errors),
    )


def rate(done_s: list[float], begun_s: float, ended_s: float) -> float:
    """Answers a second, from the last answer before the span to the last one in it.

    Answers come in batches: a span that begins or ends in the middle of one would count too few or many.
    """
    first, last = (int(np.searchsorted(done_s, at, side="right")) - 1 for at in (begun_s, ended_s))
    first = max(0, first)
    return (last - first) / (done_s[last] - done_s[first]) if last > first else 0.0
