"""docs/parity.md: every row is there, and every comparison belongs to one."""

import re
from pathlib import Path

import pytest

from tests.support import parity_page
from tests.support.parity import ROWS, Place, Records

HERE = Path(__file__).parent


def test_the_page_has_every_row() -> None:
    """Its numbers come from `make parity`, and are not looked at here."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", parity_page.PAGE.read_text(encoding="utf-8"), re.M)
    assert rows == [(str(number), row) for number, row in enumerate(ROWS, start=1)]


@pytest.mark.parametrize("module", sorted(HERE.glob("test_*.py")), ids=lambda path: path.stem)
def test_a_module_that_compares_says_for_which_row(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    if re.search(r"^def test_.*\b(close|equal)\b: ", text, re.M | re.S):
        assert "pytest.mark.parity(" in text


def test_the_summary_names_what_is_closest_to_its_tolerance() -> None:
    records = Records()
    place = Place("Models", "transformers 5.23.0, live")
    for name, difference, tolerance in (
        ("logits", 2e-5, 5e-5),
        ("logits", 1e-5, 5e-5),
        ("hidden", 1e-5, 1e-4),
        ("ids", 0, 0),
    ):
        records.compared(place, name, difference, tolerance)
    records.passed[place] += 3
    line = next(line for line in parity_page.summary(records).splitlines() if "| Models |" in line)
    assert line.endswith("| 4 | logits: 2.0e-05 of 5e-05 | 3 |")
    written = "".join(parity_page.tables(records))
    assert "### 5. Models\n\nAgainst transformers 5.23.0, live: 3 tests.\n" in written
    assert "| ids | 1 | bit-equal | 0 |" in written
