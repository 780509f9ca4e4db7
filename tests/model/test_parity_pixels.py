"""The image processor against the installed transformers' Pillow processor: bit for bit.

That release puts pictures with alpha on white, where v4.50 dropped alpha, so only pictures
without alpha are compared here.
"""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from siglip_model import SiglipImageProcessor
from siglip_model.image_processing import ImageLimits, decode
from tests.model.conftest import Compare
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.parity(row="Image processors")

SIZES = [(160, 120), (64, 64), (31, 77), (2000, 5), (5, 900), (500, 400), (2, 2)]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"size": {"height": 50, "width": 32}},
    {"resample": 2},
    {"resample": 0},
    {"resample": 1},
    {"do_resize": False},
    {"do_rescale": False},
    {"do_normalize": False},
    {"do_rescale": False, "do_normalize": False},
    {"rescale_factor": 1 / 127.5},
    {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
]


def pair(**settings: Any) -> tuple[SiglipImageProcessor, SiglipImageProcessorPil]:
    settings = {"size": {"height": 32, "width": 32}} | settings
    return SiglipImageProcessor(**settings), SiglipImageProcessorPil(**settings)


def both(image: Any, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = pair(**settings)
    mine = ours(image, return_tensors="np").pixel_values
    wanted = theirs(image, return_tensors="np").pixel_values
    assert mine.dtype == wanted.dtype
    return mine, wanted


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_every_shape(size: tuple[int, int], close: Compare) -> None:
    mine, wanted = both(scene(*size))
    close("pixels of pictures", mine, wanted, 0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting(settings: dict[str, Any], close: Compare) -> None:
    mine, wanted = both(scene(), **settings)
    close("pixels under other settings", mine, wanted, 0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBX", "YCbCr", "I;16", "I", "F"])
def test_other_modes(mode: str, close: Compare) -> None:
    mine, wanted = both(scene().convert("L" if mode in ("I;16", "I", "F") else "RGB").convert(mode))
    close("pixels of other modes", mine, wanted, 0)


@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize("kind", ["uint8", "int64", "whole float32", "unit float32", "unit float64"])
def test_arrays_and_tensors(layout: str, kind: str, close: Compare) -> None:
    array = np.array(scene()).astype(kind.rsplit(maxsplit=1)[-1])
    array = array / array.dtype.type(255) if kind.startswith("unit") else array
    array = array.transpose(2, 0, 1) if layout == "first" else array
    # Floats from 0 to 1 with rescaling are darkened twice in the reference, and so here.
    for given in (array, torch.from_numpy(np.ascontiguousarray(array))):
        mine, wanted = both(given)
        close(f"pixels of arrays, {kind}", mine, wanted, 0)


def test_batches(close: Compare) -> None:
    images = [scene(40, 30, seed=seed) for seed in range(3)]
    stack = np.stack([np.asarray(image) for image in images])
    for batch in (images, tuple(images), stack, list(stack), torch.from_numpy(stack)):
        mine, wanted = both(batch)
        assert mine.shape == (3, 3, 32, 32)
        close("pixels of batches", mine, wanted, 0)


def test_served_pixels_normalised_on_the_device_are_the_processor_s(close: Compare) -> None:
    """The gateway sends uint8; a worker's pixels / 127.5 - 1 is the reference to the last bit."""
    ours, theirs = pair()
    for size in SIZES:
        image = scene(*size)
        served = decode(encoded(image, "PNG"), ImageLimits(), (32, 32))
        wanted = theirs(image, return_tensors="np").pixel_values[0]
        close("served pixels", torch.from_numpy(served) / torch.tensor(127.5) - 1, wanted, 0)
        close("served pixels, processor", ours(image).pixel_values[0], wanted, 0)


def test_every_value_of_a_byte(close: Compare) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    mine, wanted = both(ramp, do_resize=False)
    close("all 256 values", mine, wanted, 0)
