"""Entries of one stream that wait in the gateway. Callers take turns: a flood delays its own caller most."""

import math
from dataclasses import dataclass, field

from broker.held import Waiting
from broker.jobs import ROWS_PER_ENTRY, Tower


@dataclass(slots=True)
class _Caller:
    entries: dict[bytes, Waiting] = field(default_factory=dict)
    rows: int = 0


class Line:
    """Round robin over callers. A turn is at most so many rows as the tower's largest entry has."""

    def __init__(self, tower: Tower) -> None:
        self.tower = tower
        self._turn_rows = ROWS_PER_ENTRY[tower]
        # The first has its turn, and so many rows of it left.
        self._callers: dict[str, _Caller] = {}
        self._left_rows = self._turn_rows
        self._entries = 0

    def __len__(self) -> int:
        return self._entries

    def add(self, entry: Waiting) -> None:
        """Behind its caller's other entries."""
        caller = self._callers.setdefault(entry.caller, _Caller())
        caller.entries[entry.job_id] = entry
        caller.rows += entry.rows
        self._entries += 1

    def remove(self, entry: Waiting) -> bool:
        """Whether it was here."""
        caller = self._callers.get(entry.caller)
        if caller is None or caller.entries.pop(entry.job_id, None) is None:
            return False
        caller.rows -= entry.rows
        self._entries -= 1
        if not caller.entries:
            if next(iter(self._callers)) == entry.caller:
                self._left_rows = self._turn_rows
            del self._callers[entry.caller]
        return True

    def pop(self) -> Waiting | None:
        """The next one; None when nothing waits."""
        while self._callers:
            name, caller = next(iter(self._callers.items()))
            entry = next(iter(caller.entries.values()))
            if entry.rows <= self._left_rows:
                self._left_rows -= entry.rows
                self.remove(entry)
                return entry
            self._callers[name] = self._callers.pop(name)
            self._left_rows = self._turn_rows
        return None

    def ahead(self, name: str, rows: int) -> int:
        """How many entries go before further `rows` of this caller: its own and, in as many turns, others."""
        own = self._callers.get(name) or _Caller()
        turns = math.ceil((own.rows + rows) / self._turn_rows)
        others = (caller for other, caller in self._callers.items() if other != name)
        return len(own.entries) + sum(self._sent_in(turns, caller) for caller in others)

    def _sent_in(self, turns: int, caller: _Caller) -> int:
        share = min(1.0, turns * self._turn_rows / caller.rows)
        return math.ceil(share * len(caller.entries))
