"""Jobs taken from the queue and not yet on the device: at most about one batch."""

import threading
from collections import deque
from collections.abc import Sequence

from broker import Job


class Buffer:
    """One thread adds, another takes whole batches."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._jobs: deque[Job] = deque()
        self._rows = 0
        self._closed = False
        self._changed = threading.Condition()

    def wait_for_room(self) -> int:
        """Blocks until less than a batch is held; how many rows are missing to one."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows < self.max_rows)
            return self.max_rows - self._rows

    def add(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            self._jobs.extend(jobs)
            self._rows += sum(job.rows for job in jobs)
            self._changed.notify_all()

    def next_batch(self) -> list[Job]:
        """Blocks until there is work; whatever waits up to a batch. Empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._jobs)
            batch = self._pop_batch()
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Nothing is added any more; what is held is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _pop_batch(self) -> list[Job]:
        batch: list[Job] = []
        rows = 0
        while self._jobs and (not batch or rows + self._jobs[0].rows <= self.max_rows):
            batch.append(self._jobs.popleft())
            rows += batch[-1].rows
        self._rows -= rows
        return batch
