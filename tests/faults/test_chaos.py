"""A short run of what `make chaos` does for minutes."""

import pytest

from tests.faults.chaos import run, table
from tests.faults.load import Book


def test_a_fault_of_ours_is_no_way_for_a_request_to_end() -> None:
    book = Book(sent=3)
    for outcome in ("right", "UNAVAILABLE"):
        book.note(outcome, 0.1, 1)
    assert book.bad == 1  # one has not ended
    book.note("INTERNAL", 0.1, 1)
    assert (book.lost, book.bad) == (0, 1)


@pytest.mark.slow
def test_half_a_minute_of_chaos() -> None:
    book, faults, left = run(30, seed=7)
    shown = table(book, faults, left)
    print(shown)
    assert (book.bad, left) == (0, {}), shown
    assert book.right > 100 and sum(faults.values()) >= 5, shown
