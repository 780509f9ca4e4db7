"""Tokenizer and image processor of one checkpoint in one call."""

from pathlib import Path
from typing import Any, Self

from siglip_model.auto import AutoImageProcessor, AutoTokenizer
from siglip_model.batch import Batch, TensorKind
from siglip_model.files import PROCESSING_FILES, hub_options, resolve
from siglip_model.tokenizer_calls import Padding, Truncation

TEXT_OPTIONS = (
    "text_pair",
    "add_special_tokens",
    "pad_to_multiple_of",
    "padding_side",
    "return_attention_mask",
    "return_token_type_ids",
    "return_special_tokens_mask",
    "return_length",
)


class SiglipProcessor:
    """`image_processor` is a SiglipImageProcessor or its fast twin, `tokenizer` SigLIP's or SigLIP 2's."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(
        self,
        text: Any = None,
        images: Any = None,
        padding: Padding = False,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        return_tensors: TensorKind | None = "pt",
        **options: Any,
    ) -> Batch:
        """`input_ids` of the texts and `pixel_values` of the images, whichever are given.

        As in the reference nothing is padded unless asked, and SigLIP is right only with
        `padding="max_length"`. Newer releases of the reference take the images first; an image in
        the place of the text, or a text in the place of the images, is understood. `options` are
        those of the tokenizer and of the image processor; unknown ones raise TypeError.
        """
        if text is not None and not _is_text(text):
            text, images = images, text
        if _is_text(images):
            raise TypeError("images must be pictures or arrays, not strings: open files with load_image")
        if text is None and images is None:
            raise ValueError("give text, images or both")
        for_text = {name: options.pop(name) for name in TEXT_OPTIONS if name in options}
        batch = Batch()
        if text is not None:
            batch |= self.tokenizer(
                text,
                padding=padding,
                truncation=truncation,
                max_length=max_length,
                return_tensors=return_tensors,
                **for_text,
            )
        if images is not None:
            batch |= self.image_processor(images, return_tensors=return_tensors, **options)
        elif options:
            raise TypeError(f"SiglipProcessor takes no {', '.join(options)} without images")
        return Batch(batch)

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    def decode(self, *args: Any, **options: Any) -> str:
        text: str = self.tokenizer.decode(*args, **options)
        return text

    def batch_decode(self, *args: Any, **options: Any) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(*args, **options)
        return texts

    @classmethod
    def from_pretrained(cls, model: str | Path, *, use_fast: bool | None = None, **hub: Any) -> Self:
        """`model` is a folder or a hub id. Reads the layout of Transformers 4 and that of 5.

        use_fast: which image processor; None takes the kind that was saved.
        hub: revision, cache_dir, token, local_files_only.
        """
        folder = resolve(model, only=PROCESSING_FILES, **hub_options(hub)).folder
        if hub:
            raise TypeError(f"SiglipProcessor.from_pretrained takes no {', '.join(hub)}")
        images = AutoImageProcessor.from_pretrained(folder, use_fast=use_fast)
        return cls(images, AutoTokenizer.from_pretrained(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files of tokenizer and image processor in the layout that all releases read."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _is_text(value: Any) -> bool:
    """A text, or a list that begins with one."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, str)
