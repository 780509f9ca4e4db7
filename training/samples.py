"""Draws the sample pictures of the repository: `python -m training.samples`."""

import argparse
from pathlib import Path
from random import Random

from PIL import Image

from training.scenes import Scene, draw, scene_of

SAMPLES = Path("samples")
CANVAS, SCALE = (160, 120), 3  # as large as the scenes of training, and then enlarged

# File name, and the coloured shapes in the picture. No picture has a red star in training.
PICTURES: dict[str, list[tuple[str, str]]] = {
    "red-circle": [("red", "circle")],
    "yellow-crescent": [("yellow", "crescent")],
    "three-green-hearts": [("green", "heart")] * 3,
    "four-purple-squares": [("purple", "square")] * 4,
    "blue-triangle-and-orange-ring": [("blue", "triangle"), ("orange", "ring")],
    "red-star": [("red", "star")],
}


def sample(name: str) -> Scene:
    return scene_of(Random(f"samples/{name}"), PICTURES[name], CANVAS)


def enlarged(scene: Scene) -> Image.Image:
    """Drawn at twice the size and halved, which smooths the edges."""
    return draw(scene, 2 * SCALE).reduce(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=SAMPLES)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        enlarged(sample(name)).save(folder / f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main()
