"""pipeline("image-classification") against the installed transformers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from siglip_model import SiglipModel, pipeline
from tests.model.conftest import Compare
from tests.model.reference import quiet_reference
from tests.support.pictures import scene

pytestmark = pytest.mark.parity(row="Pipeline")

TASK = "image-classification"
SCORES = 1e-6


def classifier(tiny: Path, folder: Path, labels: int, problem_type: str | None) -> Path:
    """A checkpoint with a random head, written by transformers."""
    quiet_reference()
    names = dict(enumerate(f"label {index}" for index in range(labels)))
    config = transformers.SiglipConfig.from_pretrained(
        tiny, id2label=names, label2id={name: index for index, name in names.items()}
    )
    config.problem_type = problem_type
    torch.manual_seed(0)
    transformers.SiglipForImageClassification(config).save_pretrained(folder)
    shutil.copy(tiny / "preprocessor_config.json", folder)
    return folder


@pytest.mark.parametrize(
    ("labels", "problem_type", "options"),
    [
        (7, None, {}),
        (7, "single_label_classification", {"top_k": 2}),
        (7, "multi_label_classification", {"top_k": 100}),
        (3, None, {"function_to_apply": "sigmoid"}),
        (3, None, {"function_to_apply": "none"}),
        (1, None, {}),
        (1, "regression", {}),
    ],
)
def test_scores(
    tiny: Path, tmp_path: Path, labels: int, problem_type: str | None, options: dict[str, Any], close: Compare
) -> None:
    folder = classifier(tiny, tmp_path, labels, problem_type)
    images = [scene(seed=0), scene(80, 90, seed=1)]
    ours = pipeline(TASK, folder)(images, batch_size=2, **options)
    theirs = transformers.pipeline(TASK, model=str(folder), device=-1)(images, **options)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert [entry["label"] for entry in mine] == [entry["label"] for entry in wanted]
        scores = [np.array([entry["score"] for entry in found]) for found in (mine, wanted)]
        close(f"image classification, {labels} labels, {options or problem_type}", *scores, SCORES)


def test_wrong_calls(tiny: Path, tmp_path: Path) -> None:
    pipe = pipeline(TASK, classifier(tiny, tmp_path, 3, None))
    with pytest.raises(ValueError, match="function_to_apply must be one of softmax, sigmoid, none"):
        pipe(scene(), function_to_apply="tanh")
    with pytest.raises(ValueError, match="give an image"):
        pipe()
    whole = SiglipModel.from_pretrained(tiny)
    with pytest.raises(ValueError, match="a classifier, not a SiglipModel"):
        pipeline(TASK, whole, image_processor=tiny)
