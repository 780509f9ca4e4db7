"""The batch limit found at start: efficient, and far below the time a batch may take."""

from dataclasses import dataclass, field

import numpy as np

from workers.batch import RowDtype, Rows, Vectors
from workers.calibrate import MAX_BATCH_ROWS, MAX_BATCH_S, SHORT_BATCH_S, calibrate


@dataclass
class TimedTower:
    """Takes `fixed_s` + `row_s` for each row, on a clock of its own; holds at most `memory_rows`."""

    fixed_s: float
    row_s: float
    memory_rows: int = MAX_BATCH_ROWS
    row_shape: tuple[int, ...] = (4,)
    dtype: RowDtype = "int32"
    dim: int = 2
    now_s: float = 0.0
    runs: list[int] = field(default_factory=list)

    def run(self, rows: Rows) -> Vectors:
        if len(rows) > self.memory_rows:
            raise MemoryError("too many rows")
        self.now_s += self.fixed_s + self.row_s * len(rows)
        self.runs.append(len(rows))
        return Vectors(np.ones((len(rows), 2), np.float32), np.ones(len(rows), np.float32))

    def clock(self) -> float:
        return self.now_s


@dataclass
class Disturbed(TimedTower):
    """Something else has the machine while batches of `disturbed_rows` are measured."""

    disturbed_rows: int = 0

    def run(self, rows: Rows) -> Vectors:
        self.now_s += self.fixed_s * (len(rows) == self.disturbed_rows)
        return super().run(rows)


def rows_for(tower: TimedTower) -> int:
    return calibrate(tower, tower.clock)


def test_short_batches_are_enlarged_without_a_gain() -> None:
    assert rows_for(TimedTower(fixed_s=0.0, row_s=SHORT_BATCH_S / 16)) == 16


def test_no_larger_batch_where_it_gains_nothing() -> None:
    assert rows_for(TimedTower(fixed_s=0.0, row_s=SHORT_BATCH_S * 1.1)) == 1


def test_larger_batches_while_they_gain_a_tenth() -> None:
    # Throughput of n rows goes with n / (8 + n). From 32 to 64 rows it grows by 11 %, to 128 by 6 %.
    assert rows_for(TimedTower(fixed_s=0.016, row_s=0.002)) == 64


def test_a_batch_never_takes_long_however_much_it_gains() -> None:
    tower = TimedTower(fixed_s=MAX_BATCH_S / 2, row_s=MAX_BATCH_S / 20)
    assert rows_for(tower) == 8


def test_one_row_is_the_least_however_slow_it_is() -> None:
    assert rows_for(TimedTower(fixed_s=10 * MAX_BATCH_S, row_s=1.0)) == 1


def test_memory_ends_the_search() -> None:
    assert rows_for(TimedTower(fixed_s=0.1, row_s=0.0, memory_rows=20)) == 16


def test_there_is_an_upper_limit() -> None:
    tower = TimedTower(fixed_s=0.1, row_s=0.0)
    assert rows_for(tower) == MAX_BATCH_ROWS
    assert max(tower.runs) == MAX_BATCH_ROWS


def test_one_disturbed_size_does_not_end_the_search() -> None:
    tower = Disturbed(fixed_s=0.1, row_s=0.0, disturbed_rows=2)
    assert rows_for(tower) == MAX_BATCH_ROWS
