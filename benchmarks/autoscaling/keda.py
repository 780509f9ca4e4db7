"""How many replicas a KEDA ScaledObject with one stream-length trigger wants.

From zero to one and back KEDA decides itself (`pollingInterval`, `cooldownPeriod`). From one on it makes a
HorizontalPodAutoscaler with an external metric of type AverageValue: ceil(entries / target), left as it is
within a tolerance of a tenth, lowered only to the highest that was wanted in the last minutes, and no faster
than its policy allows.
"""

import math
from collections import deque
from dataclasses import dataclass, field

# Of the Kubernetes controller manager.
TOLERANCE = 0.1
UP_PODS, UP_FACTOR = 4, 2.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The defaults are those of KEDA and Kubernetes."""

    entries_per_worker: int
    min_replicas: int = 0
    max_replicas: int = 8
    polling_interval_s: float = 30.0
    cooldown_s: float = 300.0
    sync_s: float = 15.0
    stabilization_s: float = 300.0
    down_share: float = 1.0
    """Of the replicas, so many may go in `down_period_s`."""
    down_period_s: float = 15.0


@dataclass
class Autoscaler:
    """Asked again and again, with a clock that only grows."""

    rule: Rule
    _due_s: float = 0.0
    _last_active_s: float = 0.0
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def replicas(self, now_s: float, entries: int, current: int) -> int:
        """From the entries of the stream and the replicas that are set now."""
        if entries:
            self._last_active_s = now_s
        if now_s < self._due_s:
            return current
        self._due_s = now_s + (self.rule.sync_s if current else self.rule.polling_interval_s)
        if current == 0:
            return max(1, self.rule.min_replicas) if entries else self.rule.min_replicas
        if not entries and now_s - self._last_active_s >= self.rule.cooldown_s:
            self._wanted.clear()
            self._changes.clear()
            return self.rule.min_replicas
        bounded = self._bounded(now_s, self._stable(now_s, self._desired(entries, current)), current)
        if bounded != current:
            self._changes.append((now_s, bounded - current))
        return bounded

    def _desired(self, entries: int, current: int) -> int:
        ratio = entries / (self.rule.entries_per_worker * current)
        if abs(ratio - 1) <= TOLERANCE:
            return current
        return math.ceil(entries / self.rule.entries_per_worker)

    def _stable(self, now_s: float, desired: int) -> int:
        """Up at once; down to the highest of the window."""
        self._wanted.append((now_s, desired))
        while self._wanted[0][0] < now_s - self.rule.stabilization_s:
            self._wanted.popleft()
        return max(wanted for _, wanted in self._wanted)

    def _bounded(self, now_s: float, wanted: int, current: int) -> int:
        if wanted < current:
            # The window holds what was wanted, never less than one while KEDA keeps the target active.
            return min(current, max(1, self.rule.min_replicas, wanted, self._least(now_s, current)))
        most = max(current + UP_PODS, math.floor(current * UP_FACTOR))
        return min(wanted, most, self.rule.max_replicas)

    def _least(self, now_s: float, current: int) -> int:
        """What the policy leaves of the replicas that there were when its period began."""
        while self._changes and self._changes[0][0] <= now_s - self.rule.down_period_s:
            self._changes.popleft()
        at_first = current - sum(change for _, change in self._changes)
        return int(at_first * (1 - self.rule.down_share))
