"""Both image processors against what those of transformers 4.50.3 gave."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from siglip_model import AutoImageProcessor, SiglipImageProcessor, SiglipImageProcessorFast
from siglip_model.image_processing import ImageSettings
from tests.model.conftest import Compare
from tests.support.pictures import scene

pytestmark = pytest.mark.parity(row="Image processors", against="transformers 4.50.3, recorded")

GOLDEN = dict(np.load(Path(__file__).parent / "goldens" / "pixels.npz"))
ROWS = [name for name in GOLDEN if not name.startswith("input/")]
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "bilinear": {"resample": 2},
    "nearest": {"resample": 0},
    "oblong": {"size": {"height": 10, "width": 14}},
    "numbers": {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "rescale_factor": 1 / 200},
    "not_normalized": {"do_normalize": False},
    "not_rescaled": {"do_rescale": False},
}
LSB = 2 / 255


def processor(kind: str, name: str) -> ImageSettings:
    cls = {"slow": SiglipImageProcessor, "fast": SiglipImageProcessorFast}[kind]
    return cls(**({"size": {"height": 16, "width": 16}} | SETTINGS[name]))


def image_in(form: str, array: npt.NDArray[np.uint8]) -> Any:
    match form:
        case "pillow":
            return Image.fromarray(array)
        case "last":
            return array
        case "first":
            return np.ascontiguousarray(array.transpose(2, 0, 1))
        case "tensor":
            return torch.from_numpy(array.copy()).permute(2, 0, 1)
    return (array / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("row", ROWS)
def test_recorded_pixels(row: str, close: Compare) -> None:
    kind, name, form, index = row.split("/")
    given = image_in(form, GOLDEN[f"input/{index}"])
    ours = processor(kind, name)(given, return_tensors="pt").pixel_values[0]  # type: ignore[operator]
    # The fast processor rounds its division where ours multiplies: the last bit of a float.
    close(f"{kind} processor, recorded pixels", ours, GOLDEN[row], 0 if kind == "slow" else 1e-6)


def test_both_kinds_are_recorded() -> None:
    assert {row.split("/")[0] for row in ROWS} == {"slow", "fast"} and len(ROWS) == 88


@pytest.mark.parametrize("size", [(640, 480), (300, 200), (97, 131), (2000, 40)])
def test_fast_is_within_two_steps_of_pillow(size: tuple[int, int], close: Compare) -> None:
    settings: dict[str, Any] = {"size": {"height": 96, "width": 96}}
    slow = SiglipImageProcessor(**settings)(scene(*size), return_tensors="np").pixel_values
    fast = SiglipImageProcessorFast(**settings)(scene(*size), return_tensors="np").pixel_values
    close("fast processor against Pillow's", fast, slow, 2 * LSB + 1e-6)
    assert (np.abs(fast - slow) > 1e-6).mean() < 0.25


def test_fast_groups_by_shape_and_keeps_the_order() -> None:
    images = [scene(40, 30, seed=0), scene(30, 40, seed=1), scene(40, 30, seed=2)]
    fast = SiglipImageProcessorFast(size=16)
    together = fast(images, return_tensors="pt").pixel_values
    alone = torch.cat([fast(image, return_tensors="pt").pixel_values for image in images])
    assert torch.equal(together, alone)
    listed = fast([[images[0]], images[1:]]).pixel_values
    assert isinstance(listed, list) and torch.equal(torch.stack(listed), together)
    stack = np.stack([np.asarray(images[0]), np.asarray(images[2])])
    assert torch.equal(fast(stack, return_tensors="pt").pixel_values, alone[[0, 2]])


def test_fast_tensors_where_channels_are_ambiguous() -> None:
    """[3, 3, 3] is taken for channels first, as the reference does, unless it is said."""
    fast, array = (
        SiglipImageProcessorFast(size=3),
        np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8),
    )
    for given in (array, torch.from_numpy(array)):
        first = fast(given, return_tensors="pt").pixel_values[0]
        last = fast(given, return_tensors="pt", input_data_format="channels_last").pixel_values[0]
        assert torch.equal(last, first.permute(2, 0, 1))
    assert torch.equal(fast(Image.fromarray(array), return_tensors="pt").pixel_values[0], last)


def test_fast_on_another_device() -> None:
    pixels = SiglipImageProcessorFast(size=16)(scene(), return_tensors="pt", device="meta").pixel_values
    assert pixels.device.type == "meta" and pixels.shape == (1, 3, 16, 16)


def test_fast_on_an_accelerator_is_near_the_cpu() -> None:
    """Bytes are resized as floats there, and rounded: within one step."""
    from siglip_model.image_processing_fast import _interpolate, resize

    pixels = torch.from_numpy(np.array(scene(80, 60))).permute(2, 0, 1)[None]
    whole = resize(pixels, (32, 32), 3).int()
    floats = _interpolate(pixels.float(), (32, 32), 3).clamp_(0, 255).round_().int()
    assert (whole - floats).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resample": 1}, r"resample is 1; the fast image processor has 0 \(nearest\), 2"),
        ({"data_format": "channels_last"}, "channels_first only"),
        ({"return_tensors": "jax"}, "return_tensors must be"),
        ({"input_data_format": "middle"}, "data_format must be 'channels_first' or 'channels_last'"),
    ],
)
def test_fast_refusals(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SiglipImageProcessorFast(size=16)(np.asarray(scene()), **options)


def test_the_kind_that_was_saved_is_loaded(tmp_path: Path) -> None:
    fast = SiglipImageProcessorFast(size=20, resample=2)
    fast.save_pretrained(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(again) is SiglipImageProcessorFast and again == fast
    assert type(AutoImageProcessor.from_pretrained(tmp_path, use_fast=False)) is SiglipImageProcessor
    SiglipImageProcessor().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is SiglipImageProcessor
    assert type(AutoImageProcessor.from_pretrained(tmp_path, use_fast=True)) is SiglipImageProcessorFast
