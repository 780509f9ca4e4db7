"""Patches of NaFlex pictures against the installed transformers' Pillow processor, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    Siglip2ImageProcessorPil,
    get_image_size_for_max_num_patches,
)

from siglip_model import (
    AutoImageProcessor,
    AutoProcessor,
    CheckpointError,
    Siglip2ImageProcessor,
    Siglip2Processor,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)
from siglip_model.siglip2.image_processor import size_in_pixels
from tests.model.conftest import Compare, Equal
from tests.model.reference import EMBEDS, LOGITS, quiet_reference, reference
from tests.support.siglip2_checkpoints import write_fixed_checkpoint, write_naflex_checkpoint

pytestmark = pytest.mark.parity(row="SigLIP 2")

KEYS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
SIZES = [(50, 30), (30, 90), (64, 64), (1, 1), (200, 3), (3, 200), (17, 16), (4, 4)]  # height, width


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    quiet_reference()
    yield


@pytest.fixture(scope="module")
def naflex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_naflex_checkpoint(tmp_path_factory.mktemp("naflex"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixed_checkpoint(tmp_path_factory.mktemp("fixed"))


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patch_size": 16, "max_num_patches": 256},
        {"patch_size": 7, "max_num_patches": 10},
        {"max_num_patches": 1},
        {"resample": 3},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
    ],
    ids=str,
)
def test_patches(naflex: Path, settings: dict[str, Any], equal: Equal) -> None:
    """As settings of the processor, and as those of one call."""
    theirs = Siglip2ImageProcessorPil.from_pretrained(naflex)(pictures(), return_tensors="np", **settings)
    ours = Siglip2ImageProcessor.from_pretrained(naflex, **settings)(pictures(), return_tensors="np")
    call = Siglip2ImageProcessor.from_pretrained(naflex)(pictures(), return_tensors="np", **settings)
    for key in KEYS:
        value = theirs[key].astype(ours[key].dtype)
        equal(f"NaFlex {key}", ours[key], value)
        np.testing.assert_array_equal(call[key], value)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_modes_of_pictures(naflex: Path, mode: str, equal: Equal) -> None:
    given = [picture.convert(mode) for picture in pictures()]
    expected = [picture.convert("RGB") for picture in given]
    theirs = Siglip2ImageProcessorPil.from_pretrained(naflex)(expected, return_tensors="np")
    ours = AutoImageProcessor.from_pretrained(naflex)(given, return_tensors="np")
    equal("NaFlex pixel_values", ours.pixel_values, theirs["pixel_values"].astype(np.float32))


@pytest.mark.parametrize("form", ["array", "tensor", "channels_first", "nested", "stacked"])
def test_kinds_of_images(naflex: Path, form: str) -> None:
    ours = Siglip2ImageProcessor.from_pretrained(naflex)
    given = pictures()[:3] if form != "stacked" else pictures()[2:3]
    arrays = [np.asarray(picture) for picture in given]
    forms: dict[str, Any] = {
        "array": arrays,
        "tensor": [torch.from_numpy(array.copy()) for array in arrays],
        "channels_first": [array.transpose(2, 0, 1) for array in arrays],
        "nested": [[array] for array in arrays],
        "stacked": arrays[0][None],
    }
    expected = ours(given, return_tensors="np")
    for key, value in ours(forms[form], return_tensors="np").items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("patch_size", [14, 16, 32])
@pytest.mark.parametrize("patches", [1, 64, 256, 1024])
def test_sizes_of_many_shapes(patch_size: int, patches: int, equal: Equal) -> None:
    draw = np.random.default_rng(patches)
    shapes = [(1, 1), (1, 10_000), (10_000, 1), (224, 224), (480, 640), (16, 4096), (4096, 16)]
    shapes += [tuple(map(int, draw.integers(1, 3000, 2))) for _ in range(60)]
    ours = [size_in_pixels(*shape, patch_size, patches) for shape in shapes]
    theirs = [get_image_size_for_max_num_patches(*shape, patch_size, patches) for shape in shapes]
    equal("NaFlex sizes", ours, theirs)
    assert all(height * width <= patches * patch_size**2 for height, width in ours)


def test_lists_and_tensors(naflex: Path) -> None:
    ours = Siglip2ImageProcessor.from_pretrained(naflex)
    lists, tensors = ours(pictures()), ours(pictures(), return_tensors="pt")
    assert [patches.shape for patches in lists.pixel_values] == [(24, 48)] * len(SIZES)
    assert [list(grid) for grid in lists.spatial_shapes] == tensors.spatial_shapes.tolist()
    kinds = (torch.float32, torch.int32, torch.int64)
    assert tuple(tensors[key].dtype for key in KEYS) == kinds
    assert tuple(tensors) == KEYS == tuple(ours.model_input_names)


def test_pictures_that_are_patches_already(naflex: Path) -> None:
    ours = Siglip2ImageProcessor.from_pretrained(naflex, do_resize=False)
    picture = Image.fromarray(np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3))
    batch = ours(picture, return_tensors="np", do_rescale=False, do_normalize=False)
    assert batch.spatial_shapes.tolist() == [[2, 3]]
    np.testing.assert_array_equal(batch.pixel_values[0, 1], np.asarray(picture)[:4, 4:8].reshape(-1))
    with pytest.raises(ValueError, match="an image of 9 x 8 is no whole number of patches of 4 x 4"):
        ours(Image.new("RGB", (8, 9)))
    with pytest.raises(ValueError, match="has 25 patches and max_num_patches is 24"):
        ours(Image.new("RGB", (20, 20)))


@pytest.mark.parametrize("name", ["patch_size", "max_num_patches"])
def test_numbers_that_no_model_can_have(naflex: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name} is 0 and must be a whole number above 0"):
        Siglip2ImageProcessor.from_pretrained(naflex, **{name: 0})
    with pytest.raises(ValueError, match=f"{name} is -1"):
        Siglip2ImageProcessor.from_pretrained(naflex)(pictures(), **{name: -1})
    with pytest.raises(TypeError, match="colour"):
        Siglip2ImageProcessor.from_pretrained(naflex)(pictures(), colour=1)


def test_defaults() -> None:
    ours, theirs = Siglip2ImageProcessor(), Siglip2ImageProcessorPil()
    for name in ("resample", "patch_size", "max_num_patches", "do_resize", "do_rescale", "do_normalize"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours(pictures()[0], return_tensors="np").pixel_values.shape == (1, 256, 768)


def test_saved_settings_are_read_by_both(naflex: Path, tmp_path: Path) -> None:
    ours = Siglip2ImageProcessor.from_pretrained(naflex, max_num_patches=30)
    ours.save_pretrained(tmp_path)
    assert Siglip2ImageProcessor.from_pretrained(tmp_path) == ours
    assert "size" not in ours.to_dict() and ours.to_dict()["processor_class"] == "Siglip2Processor"
    theirs = Siglip2ImageProcessorPil.from_pretrained(tmp_path)
    assert (theirs.max_num_patches, theirs.patch_size, int(theirs.resample)) == (30, 4, 2)


def test_processor(naflex: Path, equal: Equal) -> None:
    ours = AutoProcessor.from_pretrained(naflex)
    assert type(ours) is Siglip2Processor
    theirs = transformers.Siglip2Processor(
        Siglip2ImageProcessorPil.from_pretrained(naflex),
        transformers.models.siglip2.tokenization_siglip2.Siglip2Tokenizer.from_pretrained(naflex),
    )
    texts = ["a red cat", "TWO DOGS " * 60]
    numbers = {"max_num_patches": 24, "patch_size": 4}  # which the reference takes from nowhere else here
    expected = theirs(images=pictures(), text=texts, return_tensors="np", **numbers)
    batch = ours(images=pictures(), text=texts, return_tensors="np")
    assert {*batch} == {"input_ids", *KEYS} <= {*expected}
    for key, value in batch.items():
        equal(f"NaFlex processor {key}", value, expected[key].astype(value.dtype))
    assert ours(pictures(), texts, return_tensors="pt").input_ids.shape == (2, 64)  # images may come first
    assert len(ours(["a cat"]).input_ids[0]) == 64
    assert len(ours(["a cat"], padding=False).input_ids[0]) < 64


def test_processor_round_trip(naflex: Path, tmp_path: Path) -> None:
    ours = AutoProcessor.from_pretrained(naflex)
    ours.save_pretrained(tmp_path)
    again = Siglip2Processor.from_pretrained(tmp_path)
    assert again.image_processor == ours.image_processor
    first, second = (one(["A cat"], pictures(), return_tensors="np") for one in (ours, again))
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)


def test_a_folder_that_transformers_5_saved(naflex: Path, tmp_path: Path) -> None:
    """One file for the image settings, a tokenizer that lowers by itself, and no length."""
    theirs = transformers.Siglip2Processor(
        Siglip2ImageProcessorPil.from_pretrained(naflex),
        transformers.models.siglip2.tokenization_siglip2.Siglip2Tokenizer.from_pretrained(naflex),
    )
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((naflex / "config.json").read_bytes())
    assert not (tmp_path / "preprocessor_config.json").exists()
    first, second = (
        AutoProcessor.from_pretrained(folder)(["A Red <eos> cat"], pictures(), return_tensors="np")
        for folder in (naflex, tmp_path)
    )
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)


def test_fixed_resolution(fixed: Path, equal: Equal, close: Compare) -> None:
    """The first SigLIP's model and image processor, with bilinear pictures and the new tokenizer."""
    processor, model = AutoProcessor.from_pretrained(fixed), SiglipModel.from_pretrained(fixed)
    assert type(processor) is SiglipProcessor and type(processor.image_processor) is SiglipImageProcessor
    assert processor.image_processor.resample == 2
    texts = ["a red cat", "two dogs in the garden, 25% off"]
    batch = processor(texts, pictures(), padding="max_length", truncation=True)
    slow = transformers.AutoImageProcessor.from_pretrained(fixed, backend="pil")
    tokens = transformers.AutoTokenizer.from_pretrained(fixed)(
        texts, padding="max_length", truncation=True, max_length=64, return_tensors="pt"
    )
    pixels = slow(pictures(), return_tensors="pt")["pixel_values"]
    equal("fixed resolution pixel_values", batch.pixel_values.numpy(), pixels.float().numpy())
    equal("fixed resolution input_ids", batch.input_ids.numpy(), tokens["input_ids"].numpy())
    with torch.no_grad():
        ours, theirs = model(**batch), reference(fixed)(tokens["input_ids"], pixels)
    for name in ("text_embeds", "image_embeds"):
        close(f"fixed resolution {name}", ours[name], theirs[name], EMBEDS)
    close("fixed resolution logits", ours.logits_per_image, theirs.logits_per_image, LOGITS)
