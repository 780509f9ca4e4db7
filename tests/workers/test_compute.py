"""A row that fails, fails alone."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.slow_model import NOT_FINITE, RAISES, SlowTower, special_row, vector_of
from workers.batch import RowDtype, Rows, Vectors, pack
from workers.compute import Computer
from workers.errors import DeviceLost

SHAPE, DIM = (16,), 8


@dataclass
class WatchedTower:
    """A stand-in that notes its runs, has memory for so many rows, and may break for good."""

    memory_rows: int = 1000
    broken: bool = False
    gives_nan: bool = False
    row_shape: tuple[int, ...] = SHAPE
    dtype: RowDtype = "int32"
    dim: int = DIM
    runs: list[int] = field(default_factory=list)

    def run(self, rows: Rows) -> Vectors:
        self.runs.append(len(rows))
        if self.broken:
            raise RuntimeError("device-side assert triggered\nand a page of advice")
        if self.gives_nan:
            return Vectors(np.full((len(rows), DIM), np.nan, np.float32), np.ones(len(rows), np.float32))
        if len(rows) > self.memory_rows:
            raise MemoryError("out of memory")
        return SlowTower(SHAPE, "int32", DIM).run(rows)


def computer_of(tower: WatchedTower, max_rows: int = 1000) -> Computer:
    return Computer(tower, max_rows, progress=lambda: None)


def rows_of(count: int, special: dict[int, int] | None = None) -> list[bytes]:
    plain = np.random.default_rng(count).integers(1000, 2000, (count, *SHAPE), dtype=np.int32)
    rows = [row.tobytes() for row in plain]
    for position, value in (special or {}).items():
        rows[position] = special_row(value, SHAPE, "int32")
    return rows


def compute(tower: WatchedTower, rows: list[bytes], max_rows: int = 1000) -> tuple[Vectors, dict[int, str]]:
    vectors, errors = computer_of(tower, max_rows).compute(pack(rows, tower))
    return vectors, {row: error.reason for row, error in errors.items()}


def assert_right(vectors: Vectors, rows: list[bytes], failed: set[int]) -> None:
    assert vectors.units.shape == (len(rows), DIM)
    for i, row in enumerate(rows):
        unit, norm = vector_of(row, DIM)
        expected = (np.zeros(DIM), 0) if i in failed else (unit, norm)
        np.testing.assert_array_equal(vectors.units[i], expected[0])
        assert vectors.norms[i] == np.float32(expected[1])


def test_a_sound_batch_is_one_run() -> None:
    tower, rows = WatchedTower(), rows_of(7)
    vectors, errors = compute(tower, rows)
    assert_right(vectors, rows, failed=set())
    assert errors == {}
    assert tower.runs == [7]


@pytest.mark.parametrize("culprits", [{0}, {12}, {3, 4}, {0, 6, 12}])
def test_rows_that_raise_are_the_only_ones_without_a_vector(culprits: set[int]) -> None:
    rows = rows_of(13, dict.fromkeys(culprits, RAISES))
    vectors, errors = compute(WatchedTower(), rows)
    assert_right(vectors, rows, failed=culprits)
    assert errors == dict.fromkeys(culprits, "COMPUTE_FAILED")


def test_rows_that_are_not_finite_are_the_only_ones_without_a_vector() -> None:
    rows = rows_of(5, {1: NOT_FINITE, 4: RAISES})
    vectors, errors = compute(WatchedTower(), rows)
    assert_right(vectors, rows, failed={1, 4})
    assert errors == {1: "NON_FINITE", 4: "COMPUTE_FAILED"}


def test_more_rows_than_the_limit_are_several_runs() -> None:
    tower, rows = WatchedTower(), rows_of(20)
    vectors, errors = compute(tower, rows, max_rows=8)
    assert_right(vectors, rows, failed=set())
    assert errors == {}
    assert max(tower.runs) <= 8


def test_too_little_memory_halves_the_limit_for_good() -> None:
    tower, rows = WatchedTower(memory_rows=5), rows_of(16)
    computer = computer_of(tower)
    vectors, errors = computer.compute(pack(rows, tower))
    assert_right(vectors, rows, failed=set())
    assert errors == {}
    assert computer.max_rows == 4
    tower.runs.clear()
    computer.compute(pack(rows, tower))
    assert tower.runs == [4, 4, 4, 4]


def test_too_little_memory_for_one_row_may_be_tried_again() -> None:
    tower = WatchedTower()
    computer = computer_of(tower)
    known_good_only = np.zeros((1, *SHAPE), np.int32)
    tower.run = lambda rows: _memory_for_zeros(rows, known_good_only)  # type: ignore[method-assign]
    _, errors = computer.compute(pack(rows_of(1), tower))
    assert (errors[0].reason, errors[0].retryable) == ("OUT_OF_MEMORY", True)


def _memory_for_zeros(rows: Rows, zeros: Rows) -> Vectors:
    if not np.array_equal(rows, zeros):
        raise MemoryError("out of memory")
    return SlowTower(SHAPE, "int32", DIM).run(rows)


def test_a_device_that_fails_on_everything_is_no_row_s_fault() -> None:
    tower = WatchedTower(broken=True)
    with pytest.raises(DeviceLost) as raised:
        compute(tower, rows_of(4))
    assert str(raised.value).endswith("RuntimeError: device-side assert triggered")
    assert tower.runs == [4, 1]


def test_a_device_that_gives_nan_for_everything_is_no_row_s_fault() -> None:
    tower = WatchedTower(gives_nan=True)
    with pytest.raises(DeviceLost, match=r"fails on a known good row too: .*not a finite vector"):
        compute(tower, rows_of(4))
    assert tower.runs == [4, 1]


def test_every_run_is_progress() -> None:
    beats: list[int] = []
    tower = WatchedTower()
    computer = Computer(tower, 2, progress=lambda: beats.append(1))
    computer.compute(pack(rows_of(8), tower))
    assert len(beats) == len(tower.runs) == 4
