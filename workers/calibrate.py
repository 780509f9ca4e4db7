"""Finds the batch size at which the device is efficient and still answers soon."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from workers.batch import Rows, Tower

# A worker holds one batch on the device and one beside it. Twice this bound must stay far below the
# time after which the queue gives held work to another worker.
MAX_BATCH_S = 0.5
# Below this, taking and replying cost more than the device could lose by a larger batch.
SHORT_BATCH_S = 0.02
MAX_BATCH_ROWS = 512
MIN_GAIN = 1.1
VAIN_SIZES = 2
REPEATS = 3


def calibrate(tower: Tower, clock: Callable[[], float] = time.perf_counter) -> int:
    """Rows per batch: doubled while batches are short, then while throughput still grows by a tenth.

    One size that gains nothing may be a disturbance of the machine: two in a row end the search. Warms the
    tower up on the way.
    """
    best_rows, best_throughput, in_vain = 1, 0.0, 0
    for rows, seconds in _measured(tower, clock):
        throughput = rows / seconds
        if rows > 1 and seconds > MAX_BATCH_S:
            break
        if seconds <= SHORT_BATCH_S or throughput >= MIN_GAIN * best_throughput:
            best_rows, best_throughput, in_vain = rows, throughput, 0
        else:
            in_vain += 1
            if in_vain == VAIN_SIZES:
                break
    return best_rows


def warm_up(tower: Tower, rows: int) -> None:
    """Runs the smallest and the largest batch once, so that no request pays for a first time.

    Raises MemoryError when `rows` are too many for the device.
    """
    for batch_rows in (1, rows):
        tower.run(known_good(tower, batch_rows))


def _measured(tower: Tower, clock: Callable[[], float]) -> Iterator[tuple[int, float]]:
    rows = 1
    while rows <= MAX_BATCH_ROWS:
        try:
            yield rows, batch_time_s(tower, rows, clock)
        except MemoryError:
            return
        rows *= 2


def batch_time_s(tower: Tower, rows: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The best of a few runs, after one that is not counted; a slow batch is run fewer times."""
    batch = known_good(tower, rows)
    tower.run(batch)
    best, spent = float("inf"), 0.0
    for _ in range(REPEATS):
        start = clock()
        tower.run(batch)
        elapsed = clock() - start
        best, spent = min(best, elapsed), spent + elapsed
        if spent > MAX_BATCH_S:
            break
    return best


def known_good(tower: Tower, rows: int) -> Rows:
    """Rows that every sound tower can compute: padding ids, or black pixels."""
    return np.zeros((rows, *tower.row_shape), tower.dtype)
