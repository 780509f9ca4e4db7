"""What waits in a gateway, for one thing. Callers take turns, so a flood delays its own caller most."""

import math
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class InLine(Protocol):
    """`rows`: its share of a turn. Told apart by identity."""

    @property
    def caller(self) -> str: ...
    @property
    def rows(self) -> int: ...


Item = TypeVar("Item", bound=InLine)


@dataclass(slots=True)
class _Caller(Generic[Item]):
    items: dict[Item, None] = field(default_factory=dict)
    rows: int = 0


class Line(Generic[Item]):
    """Round robin over callers. A turn is at most `turn_rows` rows; no item may have more."""

    def __init__(self, turn_rows: int) -> None:
        self._turn_rows = turn_rows
        # The first has its turn, and so many rows of it left.
        self._callers: dict[str, _Caller[Item]] = {}
        self._left_rows = turn_rows
        self._items = 0

    def __len__(self) -> int:
        return self._items

    def add(self, item: Item) -> None:
        """Behind its caller's other items."""
        caller = self._callers.setdefault(item.caller, _Caller())
        caller.items[item] = None
        caller.rows += item.rows
        self._items += 1

    def remove(self, item: Item) -> bool:
        """Whether it was here."""
        caller = self._callers.get(item.caller)
        if caller is None or item not in caller.items:
            return False
        del caller.items[item]
        caller.rows -= item.rows
        self._items -= 1
        if not caller.items:
            if next(iter(self._callers)) == item.caller:
                self._left_rows = self._turn_rows
            del self._callers[item.caller]
        return True

    def pop(self) -> Item | None:
        """The next one; None when nothing waits."""
        while self._callers:
            name, caller = next(iter(self._callers.items()))
            item = next(iter(caller.items))
            if item.rows <= self._left_rows:
                self._left_rows -= item.rows
                self.remove(item)
                return item
            self._callers[name] = self._callers.pop(name)
            self._left_rows = self._turn_rows
        return None

    def ahead(self, name: str, rows: int) -> int:
        """How many items go before further `rows` of this caller: its own and, in as many turns, others'."""
        own = self._callers.get(name) or _Caller[Item]()
        turns = math.ceil((own.rows + rows) / self._turn_rows)
        others = (caller for other, caller in self._callers.items() if other != name)
        return len(own.items) + sum(self._served_in(turns, caller) for caller in others)

    def _served_in(self, turns: int, caller: _Caller[Item]) -> int:
        share = min(1.0, turns * self._turn_rows / caller.rows)
        return math.ceil(share * len(caller.items))
