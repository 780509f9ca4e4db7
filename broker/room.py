"""Whether there is room for work: what could only fail later is refused at once, nobody gets everything."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from broker.errors import QueueFull, WouldBeLate
from broker.held import Held, Waiting
from broker.jobs import ROWS_PER_ENTRY, Tower
from broker.limits import PATIENCE, GatewayLimits, fair_share
from broker.sender import Sender


class Room:
    def __init__(self, held: Held, sender: Sender, limits: GatewayLimits) -> None:
        self._held, self._sender, self._limits = held, sender, limits
        self._entries_of: Counter[tuple[str, str]] = Counter()
        self._bytes_of: Counter[str] = Counter()

    @property
    def used_bytes(self) -> int:
        """Payload bytes of the calls that are let in."""
        return self._bytes_of.total()

    @contextmanager
    def hold(self, entries: list[Waiting], deadline_s: float) -> Iterator[None]:
        """Room for one call's entries, all of one stream, while the block runs. Raises QueueFull."""
        if not entries:
            yield
            return
        stream, caller, size = entries[0].stream, entries[0].caller, _bytes(entries)
        self._check_entries(entries)
        self._check_bytes(stream, caller, size)
        self._check_wait(entries, deadline_s)
        self._entries_of[stream, caller] += len(entries)
        self._bytes_of[caller] += size
        try:
            yield
        finally:
            self._entries_of[stream, caller] -= len(entries)
            self._bytes_of[caller] -= size
            if not self._entries_of[stream, caller]:
                del self._entries_of[stream, caller]
            if not self._bytes_of[caller]:
                del self._bytes_of[caller]

    def _check_entries(self, entries: list[Waiting]) -> None:
        stream, asked = entries[0].stream, len(entries)
        used, most = self._sender.depth(stream), self._most_entries(entries[0].tower)
        limit = most
        if self._held.max_memory_bytes:
            memory = int(self._limits.queue_memory_share * self._held.max_memory_bytes)
            limit = min(limit, memory // max(1, _bytes(entries) // asked))
        if used and used + asked > limit:
            message = f"the queue holds {used} entries; {asked} more pass the limit of {limit}"
            wall = "queue_memory" if limit < most else "queue_entries"
            raise QueueFull(message, self._retry_after_s(stream), wall)
        own, share = self._entries_of[stream, entries[0].caller], fair_share(limit, used)
        if own and own + asked > share:
            message = (
                f"{own} entries of the queue are this caller's; {asked} more pass its fair share of {share}"
            )
            raise QueueFull(message, self._retry_after_s(stream), "fair_share")

    def _most_entries(self, tower: Tower) -> int:
        """Where a small worker makes entries smaller, as many more have the same room as whole ones."""
        return self._limits.queue_max_entries * ROWS_PER_ENTRY[tower] // self._held.rows_per_entry(tower)

    def _check_bytes(self, stream: str, caller: str, asked: int) -> None:
        used, limit = self.used_bytes, self._limits.max_in_flight_bytes
        if used and used + asked > limit:
            message = f"{used} bytes are in flight; {asked} more pass the limit of {limit}"
            raise QueueFull(message, self._retry_after_s(stream), "in_flight_bytes")
        own, share = self._bytes_of[caller], fair_share(limit, used)
        if own and own + asked > share:
            message = f"{own} bytes in flight are this caller's; {asked} more pass its fair share of {share}"
            raise QueueFull(message, self._retry_after_s(stream), "fair_share")

    def _check_wait(self, entries: list[Waiting], deadline_s: float) -> None:
        """What would be answered too late only keeps others waiting. Where nothing waits, one finds out."""
        before = self._sender.entries_before(entries)
        if not before:
            return
        wait_s = self._held.pace[entries[0].stream].wait_s(before + len(entries))
        if wait_s > PATIENCE * deadline_s:
            self._held.stats["hopeless"] += 1
            message = f"about {wait_s:.1f} s of work waits and the deadline is in {deadline_s:.1f} s"
            raise WouldBeLate(message, min(5.0, max(0.1, wait_s - PATIENCE * deadline_s)), "predicted_wait")

    def _retry_after_s(self, stream: str) -> float:
        """Half of what entries waited lately: by then the queue has room."""
        return min(5.0, max(0.1, self._held.last_queue_us[stream] / 2e6))


def _bytes(entries: list[Waiting]) -> int:
    return sum(len(entry.payload) for entry in entries)
