"""Zero-shot classification with SigLIP 2: scores of the reference's models on the same inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer as ReferenceTokenizer

from siglip_model import pipeline
from tests.model.conftest import Compare
from tests.model.reference import reference
from tests.support.siglip2_checkpoints import write_fixed_checkpoint, write_naflex_checkpoint

pytestmark = pytest.mark.parity(row="SigLIP 2")

LABELS = ["a red CAT", "two dogs, 25%", "Zürich"]


@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_scores(tmp_path: Path, kind: str, close: Compare) -> None:
    write = write_fixed_checkpoint if kind == "fixed" else write_naflex_checkpoint
    folder = write(tmp_path)
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (40, side, 3), dtype=np.uint8)) for side in (30, 90)]
    found = pipeline("zero-shot-image-classification", folder)(images, LABELS, batch_size=2)

    model = reference(folder, kind="SiglipModel" if kind == "fixed" else "Siglip2Model")
    slow = (
        transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        if kind == "fixed"
        else Siglip2ImageProcessorPil.from_pretrained(folder)
    )
    texts = [f"This is a photo of {label}." for label in LABELS]
    ids = ReferenceTokenizer.from_pretrained(folder)(
        texts, padding="max_length", max_length=64, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        expected = model(ids, **slow(images, return_tensors="pt")).logits_per_image.sigmoid()
    for scores, row in zip(found, expected, strict=True):
        mine = [next(one["score"] for one in scores if one["label"] == label) for label in LABELS]
        close(f"{kind} zero-shot scores", np.array(mine) / row.numpy(), np.ones(len(LABELS)), 5e-5)
