"""Tiny checkpoints, and a table of the largest difference from the reference at each stage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tests.support.checkpoints import write_tiny_checkpoint

DIFFERENCES: dict[str, tuple[float, float]] = {}

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


@pytest.fixture
def close() -> Compare:
    """Asserts that no number of a stage is further from the reference than the tolerance."""

    def compare(stage: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, f"{stage}: {ours.shape} and {theirs.shape}"
        difference = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
        seen, _ = DIFFERENCES.get(stage, (0.0, tolerance))
        DIFFERENCES[stage] = (max(seen, difference), tolerance)
        assert difference <= tolerance, f"{stage}: {difference:.3g} is above {tolerance:.3g}"

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if DIFFERENCES:
        terminalreporter.section("largest difference from transformers")
        for stage, (difference, tolerance) in DIFFERENCES.items():
            terminalreporter.write_line(f"{stage:<48} {difference:9.2e}   allowed {tolerance:.0e}")
