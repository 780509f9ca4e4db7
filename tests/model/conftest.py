"""Tiny checkpoints, and a table of the largest difference from the reference at each stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.parity import RECORDS, Records, place_of

SHAPES = {
    "tiny": {},
    # Nothing equal to anything else: widths, projection, a patch that does not divide the side.
    "odd": {
        "text": {"hidden_size": 24, "intermediate_size": 56, "num_attention_heads": 3, "projection_size": 40},
        "vision": {"hidden_size": 40, "intermediate_size": 72, "image_size": 50, "patch_size": 7},
        "text_length": 16,
    },
    # Heads of 72 numbers, as so400m has.
    "head_72": {
        "text": {"hidden_size": 144, "num_attention_heads": 2},
        "vision": {"hidden_size": 144, "num_attention_heads": 2},
    },
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: write_tiny_checkpoint(root / name, **shape) for name, shape in SHAPES.items()}  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def tiny(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["tiny"]


Compare = Callable[[str, ArrayLike, ArrayLike, float], None]
Equal = Callable[[str, Any, Any], None]


@pytest.fixture
def close(request: pytest.FixtureRequest) -> Compare:
    """Asserts that no number of a stage is further from the reference than the tolerance."""
    place = place_of(request.node)

    def compare(stage: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, f"{stage}: {ours.shape} and {theirs.shape}"
        difference = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
        request.config.stash[RECORDS].compared(place, stage, difference, tolerance)
        assert difference <= tolerance, f"{stage}: {difference:.3g} is above {tolerance:.3g}"

    return compare


@pytest.fixture
def equal(request: pytest.FixtureRequest) -> Equal:
    """Asserts that a stage is the reference's to the last bit: arrays, lists, texts, dictionaries."""
    place = place_of(request.node)

    def compare(stage: str, ours: Any, theirs: Any) -> None:
        if hasattr(ours, "shape") or hasattr(theirs, "shape"):
            np.testing.assert_array_equal(ours, theirs, err_msg=stage, strict=True)
        else:
            assert ours == theirs, stage
        request.config.stash[RECORDS].compared(place, stage, 0.0, 0.0)

    return compare


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(RECORDS, Records())


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Tests are counted too: not every comparison is a number, and some need what is not here."""
    records, place = item.config.stash[RECORDS], place_of(item)
    if call.when == "call" and call.excinfo is None:
        records.passed[place] += 1
    if call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception):
        records.skipped[place, str(call.excinfo.value)] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stages = terminalreporter.config.stash[RECORDS].stages
    if stages:
        cases = sum(stage.cases for stage in stages.values())
        terminalreporter.section("compared with the reference")
        terminalreporter.write_line(
            f"{cases} comparisons of {len(stages)} stages; `make parity` shows the largest difference of each"
        )
