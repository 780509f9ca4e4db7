"""Tokenizer and image processor of one checkpoint in one call."""

from pathlib import Path
from typing import Any, Self

from siglip_model.batch import Batch, TensorKind
from siglip_model.files import PROCESSING_FILES, resolve
from siglip_model.image_processing import SiglipImageProcessor
from siglip_model.tokenizer import Padding, SiglipTokenizer


class SiglipProcessor:
    def __init__(self, image_processor: SiglipImageProcessor, tokenizer: SiglipTokenizer) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(
        self,
        text: Any = None,
        images: Any = None,
        padding: Padding = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: TensorKind | None = "pt",
    ) -> Batch:
        """`input_ids` of the texts and `pixel_values` of the images, whichever are given.

        As in the reference nothing is padded unless asked, and SigLIP is right only with
        `padding="max_length"`. Newer releases of the reference take the images first; an image in
        the place of the text, or a text in the place of the images, is understood.
        """
        if _is_text(images) or (text is not None and not _is_text(text)):
            text, images = images, text
        if text is None and images is None:
            raise ValueError("give text, images or both")
        batch = Batch()
        if text is not None:
            batch |= self.tokenizer(
                text,
                padding=padding,
                truncation=truncation,
                max_length=max_length,
                return_tensors=return_tensors,
            )
        if images is not None:
            batch |= self.image_processor(images, return_tensors=return_tensors)
        return Batch(batch)

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def batch_decode(self, rows: Any, *, skip_special_tokens: bool = False) -> list[str]:
        return self.tokenizer.batch_decode(rows, skip_special_tokens=skip_special_tokens)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None) -> Self:
        """`model` is a folder or a hub id. Reads the layout of Transformers 4 and that of 5."""
        folder = resolve(model, revision=revision, only=PROCESSING_FILES).folder
        return cls(SiglipImageProcessor.from_pretrained(folder), SiglipTokenizer.from_pretrained(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files of tokenizer and image processor in the layout that all releases read."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _is_text(value: Any) -> bool:
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, str)
