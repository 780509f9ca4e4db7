"""How fast a queue moves, as one gateway sees it: what its own entries had to wait for."""

from dataclasses import dataclass

# Of what was seen earlier, at each new entry: about the last fifty count.
FORGETTING = 0.98


@dataclass(slots=True)
class Pace:
    """Of one stream, over all of its workers."""

    _seconds: float = 0.0
    _entries: float = 0.0

    def observe(self, ahead: int, took_s: float) -> None:
        """An entry was answered that had `ahead` entries before it, itself included, when it was added."""
        self._seconds = self._seconds * FORGETTING + took_s
        self._entries = self._entries * FORGETTING + ahead

    def observe_unanswered(self, ahead: int, waited_s: float) -> None:
        """One was given up: that the queue is slower than it was thought to be is worth knowing, no more."""
        if waited_s > self.wait_s(ahead):
            self.observe(ahead, waited_s)

    def wait_s(self, entries: int) -> float:
        """How long the last of so many will take; 0 where that cannot be told."""
        return entries * self._seconds / self._entries if self._entries else 0.0

    def entries_in(self, seconds: float) -> int:
        """How many are done in that time; 0 where that cannot be told."""
        return int(seconds * self._entries / self._seconds) if self._seconds else 0
