"""Tokenizer and image processor of a NaFlex checkpoint in one call."""

from typing import Any

from siglip_model.batch import Batch, TensorKind
from siglip_model.processor import SiglipProcessor
from siglip_model.tokenizer_calls import Padding, Truncation


class Siglip2Processor(SiglipProcessor):
    """Pads and cuts texts to 64 tokens unless told otherwise: what the models were trained with.

    The number of patches is the image processor's own. The reference takes 256 here whatever that
    says, so that a checkpoint saved with another number is read wrongly.
    """

    def __call__(
        self,
        text: Any = None,
        images: Any = None,
        padding: Padding = "max_length",
        truncation: Truncation | None = True,
        max_length: int | None = 64,
        return_tensors: TensorKind | None = None,
        **options: Any,
    ) -> Batch:
        """`input_ids`, and `pixel_values`, `pixel_attention_mask` and `spatial_shapes`.

        Arguments are those of `SiglipProcessor`. As in the reference the values are lists unless
        `return_tensors` says otherwise.
        """
        return super().__call__(text, images, padding, truncation, max_length, return_tensors, **options)
