"""The image processor where it goes its own way: layouts, refusals, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siglip_model import CheckpointError, SiglipImageProcessor, SiglipImageProcessorFast
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


@pytest.mark.parametrize("size", [[224], {"shortest_edge": 224}, {"height": 224}])
def test_a_size_other_than_height_and_width_is_refused(size: object) -> None:
    with pytest.raises((ValueError, TypeError), match="size"):
        SiglipImageProcessor(size=size)(scene())  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [{"height": 1, "width": 1}, None])
def test_unknown_settings_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="sise"):
        SMALL(scene(), sise=value)


SETTINGS = [
    "do_resize",
    "size",
    "resample",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
]


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
@pytest.mark.parametrize("name", SETTINGS)
def test_none_stands_for_the_setting(kind: type[SiglipImageProcessor], name: str) -> None:
    """Code that passes every argument on writes None for those that nobody gave."""
    processor = kind(size=8)
    wanted = processor(scene(), return_tensors="np").pixel_values
    np.testing.assert_array_equal(
        processor(scene(), return_tensors="np", **{name: None}).pixel_values, wanted
    )


def test_settings_by_position_are_those_of_the_reference() -> None:
    processor = SiglipImageProcessor(
        False, {"height": 4, "width": 5}, 2, False, 0.5, False, [0.1] * 3, [0.2] * 3
    )
    values = processor.to_dict()
    assert [values[name] for name in SETTINGS] == [
        False,
        {"height": 4, "width": 5},
        2,
        False,
        0.5,
        False,
        [0.1] * 3,
        [0.2] * 3,
    ]
    assert SiglipImageProcessor(size=None, image_mean=None) == SiglipImageProcessor()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
@pytest.mark.parametrize(
    "numbers",
    [
        {"image_mean": [0.5, 0.5]},
        {"image_std": 0},
        {"image_std": [1, 0, 1]},
        {"rescale_factor": float("nan")},
        {"rescale_factor": [1, 1, 1]},
        {"image_mean": "half"},
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(
    kind: type[SiglipImageProcessor], numbers: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(numbers))} is .* and must be one finite number"):
        kind()(scene(), **numbers)


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
def test_what_is_no_image_is_refused_by_its_type(kind: type[SiglipImageProcessor]) -> None:
    for given, name in (("a.png", "str"), ([scene(), None], "NoneType"), ([[1.0]], "float")):
        with pytest.raises(ValueError, match=f"must be a Pillow image, an array or a tensor, not {name}"):
            kind()(given)
    with pytest.raises(ValueError, match="there is no image"):
        kind()([], return_tensors="pt")
    with pytest.raises(ValueError, match=r"\[3, 20, 30\] and \[3, 30, 20\] cannot be one tensor"):
        kind()([scene(30, 20), scene(20, 30)], do_resize=False, return_tensors="pt")


def test_a_tensor_of_a_computation_is_read() -> None:
    array = np.asarray(scene()) / 255
    computed = torch.tensor(array, requires_grad=True) * 1
    np.testing.assert_array_equal(SMALL(computed).pixel_values[0], SMALL(array).pixel_values[0])


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


def test_one_number_is_both_sides() -> None:
    assert SiglipImageProcessor(size=24).size == {"height": 24, "width": 24}  # the reference raised for it


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
def test_channels_last(kind: type[SiglipImageProcessor]) -> None:
    processor, array = kind(size=8), np.asarray(scene(12, 9))
    wanted = processor(array, return_tensors="np").pixel_values
    first = array.transpose(2, 0, 1)
    said = processor(first, return_tensors="np", input_data_format="channels_first").pixel_values
    np.testing.assert_array_equal(said, wanted)
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\], not \[3, 9, 12\]"):
        processor(first, input_data_format="channels_last")
    with pytest.raises(ValueError, match=r"must be \[3, H, W\] or \[H, W, 3\], not \[9, 12\]"):
        processor(array[..., 0])


def test_channels_last_output() -> None:
    last, first = (
        SMALL(scene(), return_tensors="np", data_format=place).pixel_values
        for place in ("channels_last", "channels_first")
    )
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), first)


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
def test_transparent_pictures(kind: type[SiglipImageProcessor]) -> None:
    """Red under full transparency: stays red, or is white."""
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    red, white = (kind(size=4, alpha=policy)(clear).pixel_values[0] for policy in ("drop", "white"))  # type: ignore[arg-type]
    assert [float(channel.min()) for channel in red] == [1, -1, -1]
    assert [float(channel.min()) for channel in white] == [1, 1, 1]
    solid = kind(size=4, alpha="white")(Image.new("RGB", (8, 8), (0, 255, 0))).pixel_values[0]
    assert [float(channel.min()) for channel in solid] == [-1, 1, -1]
    with pytest.raises(ValueError, match="alpha must be one of drop, white, not 'black'"):
        kind(alpha="black")  # type: ignore[arg-type]


def test_white_is_what_the_installed_reference_does() -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    picture = scene().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    for image in (picture, picture.convert("LA")):
        ours = SiglipImageProcessor(size=16, alpha="white")(image, return_tensors="np").pixel_values
        theirs = SiglipImageProcessorPil(size={"height": 16, "width": 16})(
            image, return_tensors="np"
        ).pixel_values
        np.testing.assert_allclose(ours, theirs, atol=1.01 / 127.5)


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
def test_sixteen_bits(kind: type[SiglipImageProcessor]) -> None:
    grey = np.full((6, 6), 0x80FF, np.uint16)
    picture, colour = Image.fromarray(grey), np.stack([grey] * 3, -1)
    clipped, scaled = (kind(size=4, sixteen_bit=how) for how in ("clip", "scale"))  # type: ignore[arg-type]
    assert float(clipped(picture).pixel_values[0].min()) == 1  # saturated, as in the reference
    for given in (picture, colour):
        assert float(scaled(given).pixel_values[0].max()) == pytest.approx(128 / 127.5 - 1, abs=1e-6)
    byte = np.full((6, 6, 3), 200, np.uint16)  # bytes in a wide type are bytes
    np.testing.assert_array_equal(scaled(byte).pixel_values[0], clipped(byte).pixel_values[0])


def test_other_names_of_the_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 9, "width": 7}, "made_by": 1})
    )
    processor = SiglipImageProcessor.from_pretrained(tmp_path)
    processor.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert written["made_by"] == 1 and "alpha" not in written
    assert SiglipImageProcessor.from_dict(json.loads(processor.to_json_string())) == processor
    SiglipImageProcessor(alpha="white").save_pretrained(tmp_path)
    assert SiglipImageProcessor.from_pretrained(tmp_path).alpha == "white"
    with pytest.raises(TypeError, match="sise"):
        SiglipImageProcessor.from_pretrained(tmp_path, sise=3)
