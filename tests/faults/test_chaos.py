"""A short run of what `make chaos` does for minutes."""

import pytest

from tests.faults.chaos import run, table


@pytest.mark.slow
def test_half_a_minute_of_chaos() -> None:
    book, faults, left = run(30, seed=7)
    shown = table(book, faults, left)
    print(shown)
    assert (book.spoilt, left) == (0, {}), shown
    assert book.right > 100 and sum(faults.values()) >= 5, shown
