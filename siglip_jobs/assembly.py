"""Answers come as they finish; parts are written in the order of the source."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from siglip_jobs.errors import Problem
from siglip_jobs.names import storable
from siglip_jobs.parts import Part
from siglip_jobs.rows import Row

Vector = npt.NDArray[np.floating[Any]]


@dataclass(slots=True, eq=False)
class Place:
    """Where an answer goes."""

    row: Row
    answer: Vector | Problem | None = None


class Assembly:
    """All methods may be called from any thread. One part is filled while the one before it is written."""

    def __init__(
        self, new_part: Callable[[], Part], write: Callable[[Part], None], part_every_s: float
    ) -> None:
        self._new_part, self._write, self._part_every_s = new_part, write, part_every_s
        self._lock = threading.RLock()
        self._waiting: deque[Place] = deque()
        self._writer = ThreadPoolExecutor(1, "siglip-writer")
        self._writing: Future[None] | None = None
        self._part = new_part()
        self._began_s = time.monotonic()
        self.answered = self.failed = 0

    def expect(self, row: Row) -> Place:
        """The next row of the source that is to have an answer."""
        place = Place(row)
        with self._lock:
            self._waiting.append(place)
        return place

    def answer(self, place: Place, answer: Vector | Problem) -> None:
        """Raises what writing a part before raised."""
        with self._lock:
            if self._writing and self._writing.done():
                self._settle()
            place.answer = answer
            self.answered += 1
            self.failed += isinstance(answer, Problem)
            while self._waiting and (found := self._waiting[0]).answer is not None:
                self._waiting.popleft()
                self._add(found.row, found.answer)

    def tick(self) -> None:
        """Writes a part that has been open for long."""
        with self._lock:
            if len(self._part) and time.monotonic() - self._began_s >= self._part_every_s:
                self._flush()

    def close(self) -> None:
        """Writes the part in hand; rows after the first that has no answer are left out."""
        try:
            with self._lock:
                if len(self._part):
                    self._flush()
                self._settle()
        finally:
            self._writer.shutdown()

    def _add(self, row: Row, answer: Any) -> None:
        if not len(self._part):
            self._began_s = time.monotonic()
        problem = answer if isinstance(answer, Problem) else None
        error = storable(str(problem)) if problem else None  # it may name a file
        self._part.add(row.id, None if problem else answer, error, row.columns)
        self._part.end, self._part.check = row.position + 1, row.check
        if self._part.is_full:
            self._flush()
        else:
            self.tick()

    def _flush(self) -> None:
        self._settle()
        part, self._part = self._part, self._new_part()
        self._writing = self._writer.submit(self._write, part)

    def _settle(self) -> None:
        """Waits until nothing is being written. Raises what writing raised, now and ever after."""
        if self._writing:
            self._writing.result()
