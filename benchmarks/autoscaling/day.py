"""A day of calls against workers that the autoscaler adds and removes, simulated."""

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.autoscaling.keda import Autoscaler, Rule

TICK_S = 0.05
DAY_S = 24 * 3600
# A worker computes so many entries of one row at once, and takes so long for it.
BATCH_ENTRIES, BATCH_S = 8, 0.2
# From the decision to a worker that takes: the node is there, the model is loaded and warmed up.
START_S = 20.0
DEADLINE_S = 60.0
# One batch. With more, a worker that is needed looks dispensable in a quiet moment: it goes, work piles up,
# and many come (113 turns a day with one and a half batches).
# The rest is what the chart asks of KEDA and Kubernetes; tests/deploy/test_chart.py holds the two together.
RULE = Rule(
    entries_per_worker=BATCH_ENTRIES,
    max_replicas=10,
    polling_interval_s=5.0,
    down_share=0.5,
    down_period_s=60.0,
)

# Hour and calls a second, with straight lines between: silence at night, a morning that begins at once, two
# bursts, and an evening that fades.
CURVE = (
    (0.0, 0.0), (6.0, 0.0), (6.01, 8.0), (8.0, 40.0), (9.0, 90.0), (11.0, 110.0), (11.5, 100.0),
    (11.52, 260.0), (11.75, 260.0), (11.77, 90.0), (14.0, 85.0), (16.0, 120.0), (16.02, 240.0),
    (16.1, 240.0), (16.12, 120.0),
    (19.0, 60.0), (22.0, 10.0), (23.0, 0.0), (24.0, 0.0),
)  # fmt: skip


@dataclass
class Day:
    calls: int = 0
    late: int = 0
    """Answered after their deadline, or not at all."""
    waits_s: list[float] = field(default_factory=list)
    """From arrival to answer, of each call."""
    offered: list[float] = field(default_factory=list)
    """Calls a second, by minute."""
    replicas: list[int] = field(default_factory=list)
    """Set, by minute."""
    changes: list[int] = field(default_factory=list)
    """Replicas before and after, each time."""
    worker_s: float = 0.0

    @property
    def turns(self) -> int:
        """How often a rise followed a fall, or the reverse: flapping shows here."""
        signs = [math.copysign(1, after - before) for before, after in pairwise(self.changes)]
        return sum(one != other for one, other in pairwise(signs))


def simulate(rule: Rule = RULE, seed: int = 0) -> Day:
    day, scaler, draw = Day(), Autoscaler(rule), np.random.default_rng(seed)
    hours, rates = zip(*CURVE, strict=True)
    ticks = np.arange(0, DAY_S, TICK_S)
    per_s = np.interp(ticks / 3600, hours, rates)
    arrivals = draw.poisson(per_s * TICK_S)
    fleet = Fleet()
    ticks_a_minute = round(60 / TICK_S)
    for number, now_s in enumerate(ticks.tolist()):
        fleet.waiting.extend([now_s] * int(arrivals[number]))
        fleet.run(now_s, day)
        wanted = scaler.replicas(now_s, fleet.entries, fleet.replicas)
        if wanted != fleet.replicas:
            day.changes += [wanted] if day.changes else [fleet.replicas, wanted]
            fleet.set(wanted, now_s)
        day.worker_s += fleet.replicas * TICK_S
        if number % ticks_a_minute == 0:
            day.replicas.append(fleet.replicas)
            day.offered.append(float(per_s[number]))
    day.calls = int(arrivals.sum())
    day.late = day.calls - sum(wait_s <= DEADLINE_S for wait_s in day.waits_s)
    return day


class Fleet:
    """Workers that take what waits, a batch at a time; one that is removed finishes what it has."""

    def __init__(self) -> None:
        self.waiting: deque[float] = deque()
        # When each is free next; a new one first has to start.
        self._free_s: list[float] = []
        # When what is in work ends, and when it came.
        self._running: list[tuple[float, list[float]]] = []

    @property
    def replicas(self) -> int:
        return len(self._free_s)

    @property
    def entries(self) -> int:
        """The length of the stream: what waits and what is in work."""
        return len(self.waiting) + sum(len(batch) for _, batch in self._running)

    def set(self, replicas: int, now_s: float) -> None:
        # Those that are free soonest go: the youngest are not even started.
        self._free_s = sorted(self._free_s)[:replicas]
        self._free_s += [now_s + START_S] * (replicas - len(self._free_s))

    def run(self, now_s: float, day: Day) -> None:
        for done_s, batch in self._running:
            if done_s <= now_s:
                day.waits_s += [now_s - came_s for came_s in batch]
        self._running = [each for each in self._running if each[0] > now_s]
        for number, free_s in enumerate(self._free_s):
            if free_s <= now_s and self.waiting:
                batch = [self.waiting.popleft() for _ in range(min(BATCH_ENTRIES, len(self.waiting)))]
                self._free_s[number] = now_s + BATCH_S
                self._running.append((now_s + BATCH_S, batch))
