"""Computes a batch so that a row that fails, fails alone."""

import logging
from collections.abc import Callable

import numpy as np

from broker import RowError
from workers.batch import Rows, Tower, Vectors
from workers.calibrate import known_good
from workers.errors import DeviceLost

log = logging.getLogger(__name__)

Errors = dict[int, RowError]

NON_FINITE = RowError("NON_FINITE", "the model's output for this row is not a finite vector", False)


class Computer:
    """Runs rows through a tower. `max_rows` only shrinks, when the device runs out of memory."""

    def __init__(self, tower: Tower, max_rows: int, progress: Callable[[], None]) -> None:
        self.tower = tower
        self.max_rows = max_rows
        self._progress = progress

    def compute(self, rows: Rows) -> tuple[Vectors, Errors]:
        """Vectors of all rows and, by row number, why some have none (theirs are zeros).

        Raises DeviceLost when even a known good row no longer works.
        """
        errors: Errors = {}
        return self._run(rows, 0, errors), errors

    def _run(self, rows: Rows, first: int, errors: Errors) -> Vectors:
        if len(rows) > self.max_rows:
            return self._halves(rows, first, errors)
        try:
            vectors = self.tower.run(rows)
        except Exception as error:
            return self._failed(error, rows, first, errors)
        finally:
            self._progress()
        return self._finite_only(vectors, first, errors)

    def _halves(self, rows: Rows, first: int, errors: Errors) -> Vectors:
        half = len(rows) // 2
        left = self._run(rows[:half], first, errors)
        return Vectors.join([left, self._run(rows[half:], first + half, errors)])

    def _failed(self, error: Exception, rows: Rows, first: int, errors: Errors) -> Vectors:
        if isinstance(error, MemoryError) and len(rows) > 1:
            self.max_rows = len(rows) // 2
            log.warning("out of memory with %d rows; the batch limit is now %d", len(rows), self.max_rows)
            return self._halves(rows, first, errors)
        self._require_device(error)
        if len(rows) > 1:
            return self._halves(rows, first, errors)
        log.warning("a row failed: %s", _summary(error))
        errors[first] = _row_error(error)
        return _nothing(1, self.tower.dim)

    def _finite_only(self, vectors: Vectors, first: int, errors: Errors) -> Vectors:
        finite = vectors.finite()
        if finite.all():
            return vectors
        self._require_device(FloatingPointError(NON_FINITE.message))
        errors.update({first + int(row): NON_FINITE for row in np.flatnonzero(~finite)})
        units = np.where(finite[:, None], vectors.units, np.float32(0))
        return Vectors(units, np.where(finite, vectors.norms, np.float32(0)))

    def _require_device(self, cause: Exception) -> None:
        try:
            usable = bool(self.tower.run(known_good(self.tower, 1)).finite().all())
        except Exception:
            usable = False
        if not usable:
            raise DeviceLost(f"the device fails on a known good row too: {_summary(cause)}") from cause


def _nothing(rows: int, dim: int) -> Vectors:
    return Vectors(np.zeros((rows, dim), np.float32), np.zeros(rows, np.float32))


def _row_error(error: Exception) -> RowError:
    if isinstance(error, MemoryError):
        return RowError("OUT_OF_MEMORY", "the device has too little memory for one row", True)
    return RowError("COMPUTE_FAILED", _summary(error), False)


def _summary(error: Exception) -> str:
    """One line: what CUDA raises is a page."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
