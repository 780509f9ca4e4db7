"""Times several ways of doing the same thing in turns, so that a noisy machine is noisy for all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

WARM_UPS = 2
MIN_TURNS = 6


@dataclass(frozen=True)
class Timed:
    seconds: Mapping[str, list[float]]
    """Of each turn, by name; turn i of one name ran next to turn i of the others."""

    def median_s(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def ratios(self, name: str, other: str) -> tuple[float, float, float]:
        """Time of `name` over time of `other` turn by turn: lower quartile, median, upper quartile."""
        turns = np.array(self.seconds[name]) / np.array(self.seconds[other])
        low, middle, high = np.quantile(turns, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)


def in_turns(
    calls: Mapping[str, Callable[[], object]], budget_s: float, wait: Callable[[], object] = lambda: None
) -> Timed:
    """At least 6 turns, and more while the budget lasts; every other turn goes backwards.

    `wait` ends what a call has only begun: for CUDA torch.cuda.synchronize.
    """
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    wait()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    end, turn = time.perf_counter() + budget_s, 0
    while turn < MIN_TURNS or time.perf_counter() < end:
        for name in list(calls) if turn % 2 else reversed(list(calls)):
            start = time.perf_counter()
            calls[name]()
            wait()
            seconds[name].append(time.perf_counter() - start)
        turn += 1
    return Timed(seconds)
