"""Made-up words for eight colours are learned in seconds: what docs/training.md shows."""

from pathlib import Path
from random import Random

import pytest
import torch

from siglip_model import SiglipModel, SiglipProcessor
from siglip_model.finetune.batches import Maker
from siglip_model.finetune.folders import read_folder
from siglip_model.finetune.pairs import Bad
from siglip_model.finetune.run import finetune
from siglip_model.scoring import fill
from tests.model.finetune_data import recipe_of
from training.scenes import COLOURS, SHAPES, photograph, scene_of

CHECKPOINT = Path("checkpoints/shapes")
TEMPLATE = "a {} shape"
# One for each colour; were only some of them new, the known others would give them away.
NAMES = ("glorp", "blim", "fendle", "quoss", "ravik", "tummet", "zaddo", "wickle")


def draw(folder: Path, count: int, seed: str) -> Path:
    rng = Random(seed)
    for colour, name in zip(COLOURS, NAMES, strict=True):
        home = folder / name
        home.mkdir(parents=True)
        for number in range(count):
            photograph(scene_of(rng, [(colour, rng.choice(SHAPES))])).save(home / f"{number}.png")
    return folder


def accuracy(checkpoint: Path, fresh: Path) -> float:
    """How often the right one of the eight names is the nearest."""
    data = read_folder(fresh, TEMPLATE, Bad(0))
    model, processor = SiglipModel.from_pretrained(checkpoint), SiglipProcessor.from_pretrained(checkpoint)
    pixels = Maker(processor, 64, data.pairs, 0).make(range(len(data.pairs))).pixel_values
    prompts = [fill(TEMPLATE, label) for label in data.labels]
    ids = processor(text=prompts, padding="max_length", return_tensors="pt").input_ids
    best = model(ids, pixels).logits_per_image.argmax(dim=1)
    return float(
        (best == torch.tensor([data.labels.index(pair.label or "") for pair in data.pairs])).float().mean()
    )


@pytest.mark.slow
def test_new_words(tmp_path: Path) -> None:
    fresh = draw(tmp_path / "fresh", 20, "fresh")
    data = draw(tmp_path / "pictures", 40, "pictures")
    assert accuracy(CHECKPOINT, fresh) < 0.3  # one in eight is chance
    recipe = recipe_of(
        *(CHECKPOINT, data, tmp_path / "out"),
        steps=50,
        batch_size=32,
        learning_rate=3e-4,
        template=TEMPLATE,
    )
    finetune(recipe)
    assert accuracy(tmp_path / "out", fresh) > 0.9
