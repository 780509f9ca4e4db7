"""Tokenizer and image processor in one call, compared with the reference's processor."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from siglip_model import SiglipImageProcessorFast, SiglipModel, SiglipProcessor
from siglip_model.batch import Batch
from tests.model.conftest import Equal
from tests.support.pictures import scene

pytestmark = pytest.mark.parity(row="Processor")

TEXTS = ["a photo of a cat", "Two dogs!"]


@pytest.fixture(scope="module")
def processor(tiny: Path) -> SiglipProcessor:
    return SiglipProcessor.from_pretrained(tiny)


def test_the_same_as_the_reference(tiny: Path, processor: SiglipProcessor, equal: Equal) -> None:
    theirs = transformers.SiglipProcessor(
        SiglipImageProcessorPil.from_pretrained(tiny), transformers.SiglipTokenizer.from_pretrained(tiny)
    )
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    wanted = theirs(images=[scene(), scene(30, 90)], text=TEXTS, **options)
    got = processor(text=TEXTS, images=[scene(), scene(30, 90)], **options)  # type: ignore[arg-type]
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        equal(f"texts and images: {name}", got[name].numpy(), value.numpy())


def test_text_or_images_alone_in_either_order(processor: SiglipProcessor) -> None:
    assert list(processor("a cat")) == ["input_ids"]
    assert list(processor(images=scene())) == ["pixel_values"]
    assert list(processor(scene())) == ["pixel_values"]
    both = processor(["a cat"], [scene()])
    swapped = processor([scene()], ["a cat"])
    assert both.keys() == swapped.keys() == {"input_ids", "pixel_values"}
    assert all(torch.equal(both[name], swapped[name]) for name in both)
    with pytest.raises(ValueError, match="give text, images or both"):
        processor()


def test_the_batch_goes_into_the_model(tiny: Path, processor: SiglipProcessor) -> None:
    model = SiglipModel.from_pretrained(tiny, dtype=torch.bfloat16)
    batch = processor(TEXTS, scene(), padding="max_length", truncation=True).to("cpu", torch.bfloat16)
    assert batch.pixel_values.dtype == torch.bfloat16
    assert batch.input_ids.dtype == torch.int64
    assert batch.to(dtype=torch.float32).pixel_values.dtype == torch.float32
    with torch.no_grad():
        assert model(**batch).logits_per_image.shape == (1, 2)


def test_files_are_readable_by_every_release(tiny: Path, tmp_path: Path, processor: SiglipProcessor) -> None:
    processor.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "preprocessor_config.json",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer_config.json",
    }
    again = SiglipProcessor.from_pretrained(tmp_path)
    options = {"padding": "max_length", "return_tensors": "np"}
    mine, theirs = (p(TEXTS, scene(), **options) for p in (again, processor))  # type: ignore[arg-type]
    np.testing.assert_array_equal(mine.input_ids, theirs.input_ids)
    np.testing.assert_array_equal(mine.pixel_values, theirs.pixel_values)


def test_the_layout_of_transformers_5_is_read(tiny: Path, tmp_path: Path, processor: SiglipProcessor) -> None:
    theirs = transformers.SiglipProcessor(
        SiglipImageProcessorPil.from_pretrained(tiny), transformers.SiglipTokenizer.from_pretrained(tiny)
    )
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    again = SiglipProcessor.from_pretrained(tmp_path)
    assert again.image_processor.height_width == (32, 32)
    assert again(TEXTS, return_tensors=None).input_ids == processor(TEXTS, return_tensors=None).input_ids


def test_batches_are_dictionaries_with_attributes() -> None:
    batch = Batch(ids=[1])
    assert batch.ids is batch["ids"]
    with pytest.raises(AttributeError, match="other"):
        _ = batch.other
    with pytest.raises(KeyError):
        _ = batch["other"]


def test_options_go_where_they_belong(tiny: Path) -> None:
    processor = SiglipProcessor.from_pretrained(tiny)
    picture = scene()
    both = processor(
        ["a cat"], picture, padding="max_length", return_attention_mask=True, do_normalize=False, size=16
    )
    assert both.attention_mask.shape == (1, 64)
    assert both.pixel_values.shape == (1, 3, 16, 16) and both.pixel_values.min() >= 0
    with pytest.raises(TypeError, match="colour"):
        processor(["a cat"], picture, colour="red")
    with pytest.raises(TypeError, match="takes no do_normalize without images"):
        processor(["a cat"], do_normalize=False)
    assert processor.model_input_names == ["input_ids", "pixel_values"]


def test_the_fast_image_processor(tiny: Path, tmp_path: Path) -> None:
    processor = SiglipProcessor.from_pretrained(tiny, use_fast=True)
    assert isinstance(processor.image_processor, SiglipImageProcessorFast)
    processor.save_pretrained(tmp_path)
    again = SiglipProcessor.from_pretrained(tmp_path)
    assert again.image_processor == processor.image_processor
    assert processor(images=scene()).pixel_values.shape == (1, 3, 32, 32)


def test_a_path_is_no_image(processor: SiglipProcessor) -> None:
    """It must not be read as a text."""
    for call in ({"images": "cat.png"}, {"text": "a cat", "images": ["cat.png"]}):
        with pytest.raises(TypeError, match="images must be pictures or arrays, not strings"):
            processor(**call)


def test_decoding(processor: SiglipProcessor) -> None:
    ids = processor(["a cat"], padding="max_length").input_ids
    assert processor.decode(ids[0], True) == "a cat" == processor.decode(ids[0], skip_special_tokens=True)
    assert processor.batch_decode(ids, True) == ["a cat"]
