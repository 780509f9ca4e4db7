"""The seed examples run as they stand, and as Transformers runs them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from PIL import Image

from tests.model.reference import quiet_reference

pytestmark = pytest.mark.parity(row="Pipeline")

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "examples" / "transformers_page.py"
LABELS = ["three green hearts", "two green hearts", "a red circle"]


def test_the_examples_of_the_page(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SIGLIP_MODEL"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    scores = ast.literal_eval(re.findall(r"\[.*\]", done.stdout)[0])
    quiet_reference()
    theirs = transformers.pipeline(
        "zero-shot-image-classification", model=str(ROOT / "checkpoints" / "shapes"), device=-1
    )
    with Image.open(ROOT / "samples" / "three-green-hearts.jpg") as picture:
        wanted = theirs(picture, candidate_labels=LABELS)
    assert scores == [{"score": round(e["score"], 4), "label": e["label"]} for e in wanted]
    assert scores[0]["label"] == LABELS[0]
    assert scores[0]["score"] > 0.5
    assert f"{wanted[0]['score']:.1%} that image 0 is 'three green hearts'" in done.stdout
    assert done.stderr == ""
