"""Writes pixels.npz: what both SigLIP image processors of transformers 4.50.3 give.

Run it with a Python that has that release; it imports nothing of this project. The fast processor
needs torchvision; where that is not installed the fast rows are left as they are.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision_operators
from PIL import Image

HERE = Path(__file__).parent
FILE = HERE / "pixels.npz"


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """Smooth colours with some noise, so that resizing matters and the file stays small."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 7 + i) * np.cos(columns / (5 + i)) for i in range(3)]
    noise = draw.normal(0, 0.1, (height, width, 3))
    return np.clip((np.stack(waves, -1) + noise + 1) * 127.5, 0, 255).astype(np.uint8)


SIZES = [(50, 40), (31, 77), (90, 9), (12, 12)]
SETTINGS = {
    "default": {},
    "bilinear": {"resample": 2},
    "nearest": {"resample": 0},
    "oblong": {"size": {"height": 10, "width": 14}},
    "numbers": {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "rescale_factor": 1 / 200},
    "not_normalized": {"do_normalize": False},
    "not_rescaled": {"do_rescale": False},
}


def kinds(array: np.ndarray) -> dict[str, object]:
    return {
        "pillow": Image.fromarray(array),
        "last": array,
        "first": np.ascontiguousarray(array.transpose(2, 0, 1)),
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
        "unit": (array / np.float32(255)).astype(np.float32),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    library = torchvision_operators.declare()  # noqa: F841
    from transformers import SiglipImageProcessor

    processors = {"slow": SiglipImageProcessor}
    try:
        from transformers import SiglipImageProcessorFast

        SiglipImageProcessorFast()
        processors["fast"] = SiglipImageProcessorFast
    except ImportError as error:
        print(f"fast rows are kept as they were: {error}", file=sys.stderr)
    rows = dict(np.load(FILE)) if FILE.exists() else {}
    for kind, cls in processors.items():
        for index, size in enumerate(SIZES):
            array = picture(*size, seed=index)
            rows[f"input/{index}"] = array
            for name, settings in SETTINGS.items():
                processor = cls(**({"size": {"height": 16, "width": 16}} | settings))
                images = kinds(array) if name == "default" else {"pillow": Image.fromarray(array)}
                for form, image in images.items():
                    result = processor(image, return_tensors="pt")["pixel_values"][0].numpy()
                    rows[f"{kind}/{name}/{form}/{index}"] = result
    np.savez_compressed(FILE, **rows)


if __name__ == "__main__":
    main()
