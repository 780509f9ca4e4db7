"""Small pictures with captions, and recipes, for the tests of fine-tuning."""

from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from siglip_model import SiglipModel
from siglip_model.finetune.recipe import Recipe
from siglip_settings import TrainSettings

COLOURS = ("red", "green", "blue", "yellow", "black", "white")


def write_pictures(folder: Path, count: int = 24) -> Path:
    """Pictures of one colour each, a little different, with captions that differ too."""
    folder.mkdir(parents=True)
    rng = Random("pictures")
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        image = Image.new("RGB", (20, 16), colour)
        image.putpixel((rng.randrange(20), rng.randrange(16)), (number, 9, 9))
        image.save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"{colour} picture {number}\n")
    return folder


def recipe_of(checkpoint: Path, data: Path, out: Path, **changed: Any) -> Recipe:
    given: dict[str, Any] = {
        "steps": 6,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "workers": 0,
        "device": "cpu",
        "attention": "eager",
        "eval_data": None,
        "resume": False,
        "gradient_checkpointing": False,
    }
    settings = vars(TrainSettings()) | given | changed
    return Recipe(checkpoint=str(checkpoint), data=(data,), out=out, **settings)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SiglipModel.from_pretrained(folder).state_dict()


def largest_difference(a: Path, b: Path, without: tuple[str, ...] = ()) -> float:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(
        float((first[name] - second[name]).abs().max()) for name in first if not name.endswith(without)
    )
