"""What the tests of the model library compared with the reference, and how far apart it was.

A test or module says with `pytest.mark.parity(row="Models")` which row of the table its comparisons
belong to, and with `against=` what they were compared with, where that is not the installed
transformers.
"""

from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import NamedTuple

import pytest

ROWS = {
    "Configs": "every field and default, whole models' and single towers' folders, unknown keys",
    "Tokenizer": "ids, masks, padding and truncation, decoding, added tokens, saved files",
    "Image processors": "pixels of Pillow's processor and of the fast one, every setting and input kind",
    "Processor": "both orders of arguments, both layouts of files",
    "Models": "every stage of both towers, logits, loss, outputs, classification, starting weights",
    "Pipeline": "scores and order for every kind of input, templates and batches",
    "Attention": "eager, sdpa and flash_attention_2, masks, attention weights",
    "Precision": "float16, bfloat16, autocast, compiled and exported towers",
    "Checkpoints": "single, sharded and pickled files, both layouts of towers, what others read of ours",
    "SigLIP 2": "fixed resolution and NaFlex: tokenizer, pixels, both towers",
    "Training": "loss and gradients: whole, in chunks, distributed",
    "Imports": "state dicts of open_clip and timm",
}
RECORDED = "transformers 4.50.3, recorded"


class Place(NamedTuple):
    row: str
    against: str


@dataclass
class Stage:
    largest: float
    tolerance: float
    cases: int = 0


@dataclass
class Records:
    stages: dict[tuple[Place, str], Stage] = field(default_factory=dict)
    passed: Counter[Place] = field(default_factory=Counter)
    skipped: Counter[tuple[Place, str]] = field(default_factory=Counter)

    def compared(self, place: Place, name: str, difference: float, tolerance: float) -> None:
        stage = self.stages.setdefault((place, name), Stage(0.0, tolerance))
        stage.largest = max(stage.largest, difference)
        stage.tolerance = max(stage.tolerance, tolerance)
        stage.cases += 1


RECORDS = pytest.StashKey[Records]()


def place_of(test: pytest.Item) -> Place:
    """Where the closest marker puts a test; row "" without one."""
    marker = test.get_closest_marker("parity")
    if marker is None:
        return Place("", "")
    row = marker.kwargs["row"]
    if row not in ROWS:
        raise ValueError(f"{test.nodeid}: parity row must be one of {', '.join(ROWS)}, not {row!r}")
    return Place(row, marker.kwargs.get("against") or f"transformers {version('transformers')}, live")
