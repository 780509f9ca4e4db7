"""The image processor where it goes its own way: layouts, refusals, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siglip_model import CheckpointError, SiglipImageProcessor
from siglip_model.image_processing import normalize, rescale
from tests.support.pictures import scene

SMALL = SiglipImageProcessor(size={"height": 8, "width": 12})


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (7, 3), (3, 3)])
def test_a_flat_picture_is_never_taken_for_channels(size: tuple[int, int]) -> None:
    red = Image.new("RGB", size, (255, 0, 0))
    pixels = SMALL(red).pixel_values[0]
    assert pixels.shape == (3, 8, 12)
    assert (pixels[0] == 1).all()
    assert (pixels[1:] == -1).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(mode: str) -> None:
    grey = scene().convert("L")
    see_through = grey.convert(mode)
    see_through.putalpha(100)
    np.testing.assert_array_equal(SMALL(see_through).pixel_values[0], SMALL(grey).pixel_values[0])


def test_conversion_can_be_refused() -> None:
    with pytest.raises(ValueError, match="mode L needs do_convert_rgb"):
        SMALL(Image.new("L", (4, 4)), do_convert_rgb=False)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 4), (2, 2, 4, 4, 3)])
def test_an_array_that_is_no_colour_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SMALL(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("value", [-1.0, 0.5, 300.0])
def test_values_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="values run from"):
        SMALL(np.stack([np.full((4, 4), value), np.full((4, 4), 1.5), np.full((4, 4), 2.0)]))


@pytest.mark.parametrize("size", [224, {"shortest_edge": 224}, {"height": 224}, None])
def test_a_size_other_than_height_and_width_is_refused(size: object) -> None:
    with pytest.raises((ValueError, TypeError), match="size"):
        SiglipImageProcessor(size=size)(scene())  # type: ignore[arg-type]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="sise"):
        SMALL(scene(), sise={"height": 1, "width": 1})


def test_kinds_of_output() -> None:
    images = [scene(), scene(30, 20)]
    listed = SMALL(images).pixel_values
    assert isinstance(listed, list)
    assert SMALL([]).pixel_values == []
    array, tensor = (SMALL(images, return_tensors=kind).pixel_values for kind in ("np", "pt"))
    assert array.shape == (2, 3, 8, 12)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(np.stack(listed), array)
    np.testing.assert_array_equal(tensor.numpy(), array)
    nested = SMALL([[images[0]], [images[1]]], return_tensors="np").pixel_values
    np.testing.assert_array_equal(nested, array)
    with pytest.raises(ValueError, match="return_tensors"):
        SMALL(images, return_tensors="jax")  # type: ignore[arg-type]


def test_pure_functions() -> None:
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3).repeat(3, axis=0)
    unit = rescale(pixels, 1 / 255)
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(unit[0, 0], np.float32([0, 0.2, 1]))
    scaled = normalize(unit, [0.5, 0, 0.2], [0.5, 1, 0.4])
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[:, 0, 1], [-0.6, 0.2, 0], atol=1e-7)


def test_files_round_trip(tmp_path: Path) -> None:
    processor = SiglipImageProcessor(size={"height": 9, "width": 7}, resample=2, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    assert SiglipImageProcessor.from_pretrained(tmp_path) == processor
    assert SiglipImageProcessor.from_pretrained(tmp_path, resample=3).resample == 3
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "SiglipImageProcessor"
    assert written["size"] == {"height": 9, "width": 7}


def test_the_layout_of_transformers_5_is_read(tmp_path: Path) -> None:
    settings = {"size": {"height": 9, "width": 7}, "resample": 2, "do_convert_rgb": None}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    processor = SiglipImageProcessor.from_pretrained(tmp_path)
    assert (processor.height_width, processor.resample) == ((9, 7), 2)


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks preprocessor_config\.json"):
        SiglipImageProcessor.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        SiglipImageProcessor.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 224}}')
    with pytest.raises(CheckpointError, match="size must be"):
        SiglipImageProcessor.from_pretrained(tmp_path)
