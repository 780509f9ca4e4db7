"""What one worker has read and not yet answered. Shared by its reading, device and heartbeat threads."""

import threading
import time
from dataclasses import dataclass

from broker.jobs import Job

Entry = tuple[str, bytes]  # stream, entry id


@dataclass(slots=True)
class _Held:
    taken_s: float
    gone: bool = False


class InHand:
    """Entries between reading and answering, and the jobs of them that the device loop has right now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[Entry, _Held] = {}
        self._out: set[Job] = set()
        self._progress_s = time.monotonic()

    def add(self, entry: Entry) -> None:
        """Read from the stream."""
        with self._changed:
            self._entries[entry] = _Held(time.monotonic())

    def remove(self, entries: list[Entry]) -> None:
        """Answered, or handed back."""
        with self._changed:
            for entry in entries:
                self._entries.pop(entry, None)
            self._changed.notify_all()

    def entries(self) -> list[Entry]:
        """Everything read and not answered."""
        with self._changed:
            return list(self._entries)

    def hand_out(self, jobs: list[Job]) -> None:
        """The device loop has these now."""
        with self._changed:
            if not self._out:
                self._progress_s = time.monotonic()
            self._out.update(jobs)

    def take_back(self, jobs: list[Job]) -> None:
        """The device loop is done with these."""
        with self._changed:
            self._out.difference_update(jobs)
            self._progress_s = time.monotonic()
            self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether the device loop holds nothing."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._out, timeout_s)

    def progress(self) -> None:
        """The device loop is alive."""
        with self._changed:
            self._progress_s = time.monotonic()

    def stalled(self, after_s: float) -> bool:
        """Whether the device loop holds work and has shown no progress for too long."""
        with self._changed:
            return bool(self._out) and time.monotonic() - self._progress_s > after_s

    def mark_gone(self, entries: list[Entry]) -> None:
        """The gateway has withdrawn these."""
        with self._changed:
            for entry in entries:
                if entry in self._entries:
                    self._entries[entry].gone = True

    def is_gone(self, entry: Entry) -> bool:
        """Whether the gateway is known to have withdrawn the entry."""
        with self._changed:
            return entry in self._entries and self._entries[entry].gone

    def age_s(self, entry: Entry) -> float:
        """Seconds since the entry was read."""
        with self._changed:
            return time.monotonic() - self._entries[entry].taken_s if entry in self._entries else 0.0
