"""How fast a queue moves, as one gateway sees it: what its own entries had to wait for."""

from dataclasses import dataclass

# Of what was seen earlier, at each new entry: about the last fifty count.
FORGETTING = 0.98
# A shorter queue says nothing about a longer one: workers take larger batches when more waits.
MIN_ENTRIES = 8


@dataclass(slots=True)
class Pace:
    """Of one stream, over all of its workers."""

    _seconds: float = 0.0
    _entries: float = 0.0

    def observe(self, ahead: int, took_s: float) -> None:
        """An entry was answered that had `ahead` entries before it, itself included, when it was added."""
        self._seconds = self._seconds * FORGETTING + took_s
        self._entries = self._entries * FORGETTING + ahead

    def wait_s(self, entries: int) -> float:
        """How long the last of so many will take; 0 where that cannot be told."""
        if entries < MIN_ENTRIES or not self._entries:
            return 0.0
        return entries * self._seconds / self._entries

    def entries_in(self, seconds: float) -> int:
        """How many are done in that time; 0 where that cannot be told."""
        return int(seconds * self._entries / self._seconds) if self._seconds else 0
