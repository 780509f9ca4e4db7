"""The sigmoid loss of large batches without their logits: a few rows of images at a time.

The gradients are computed beside the loss and each chunk's logits are forgotten, so memory is
O(chunk_size x texts) where automatic differentiation would keep all logits.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siglip_model.loss import at_least_float32, refuse_second_derivatives, softplus_, turn_true_pairs

CHUNK_SIZE = 1024


def chunked_sigmoid_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    image_groups: Tensor | None = None,
    text_groups: Tensor | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """`sigmoid_loss` of exp(logit_scale) x y^T + logit_bias, divided by the number of images.

    image_embeds, text_embeds: unit vectors [n, D] and [m, D].
    logit_scale, logit_bias: the model's parameters, of one number each.
    image_groups, text_groups: integers [n] and [m]; pairs with equal numbers belong together. Without
        them image i and text i do.
    chunk_size: images whose logits exist at one time.

    Computed in float32, or in float64 when the embeddings are.
    """
    image_groups, text_groups = groups_of(image_embeds, text_embeds, image_groups, text_groups)
    loss: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        image_embeds, text_embeds, logit_scale, logit_bias, image_groups, text_groups, chunk_size
    )
    return loss


def groups_of(
    images: Tensor, texts: Tensor, image_groups: Tensor | None, text_groups: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Checked, or numbered in order. Raises ValueError."""
    n, m = len(images), len(texts)
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise ValueError(
            "image_embeds and text_embeds must be [n, D] and [m, D], "
            f"not {list(images.shape)} and {list(texts.shape)}"
        )
    if (image_groups is None) != (text_groups is None):
        raise ValueError("give both image_groups and text_groups, or neither")
    if image_groups is None or text_groups is None:
        if n != m:
            raise ValueError(f"{n} images and {m} texts need image_groups and text_groups")
        image_groups = text_groups = torch.arange(n, device=images.device)
    if image_groups.shape != (n,) or text_groups.shape != (m,):
        raise ValueError(
            f"image_groups and text_groups must be [{n}] and [{m}], "
            f"not {list(image_groups.shape)} and {list(text_groups.shape)}"
        )
    return image_groups, text_groups


@dataclass
class Gradients:
    """Of the sum over all pairs, which is in `total`; all of one dtype."""

    total: Tensor
    images: Tensor
    texts: Tensor
    logit_scale: Tensor
    logit_bias: Tensor

    @classmethod
    def zeros(cls, images: Tensor, texts: Tensor) -> "Gradients":
        nothing = images.new_zeros(())
        return cls(
            nothing, torch.zeros_like(images), torch.zeros_like(texts), nothing.clone(), nothing.clone()
        )


def add_pairs(
    sums: Gradients,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    image_groups: Tensor,
    text_groups: Tensor,
    chunk_size: int,
) -> None:
    """Adds every image with every text to `sums`, whose `texts` belong to these texts."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size} and must be at least 1")
    scale = logit_scale.exp()
    for start in range(0, len(images), chunk_size):
        rows = slice(start, start + chunk_size)
        scaled = (images[rows] @ texts.t()).mul_(scale)  # [chunk, m]
        together = image_groups[rows, None] == text_groups[None, :]
        z = scaled + logit_bias
        turn_true_pairs(z, together)
        dz = z.sigmoid()
        turn_true_pairs(dz, together)
        sums.total += softplus_(z).sum()
        sums.logit_scale += torch.dot(dz.flatten(), scaled.flatten())
        sums.logit_bias += dz.sum()
        dz.mul_(scale)
        sums.images[rows] += dz @ texts
        sums.texts += dz.t() @ images[rows]


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor,
        image_groups: Tensor,
        text_groups: Tensor,
        chunk_size: int,
    ) -> Tensor:
        inputs = (images, texts, logit_scale, logit_bias)
        with without_autocast(images.device):
            x, y, scale, bias = exact(inputs)
            sums = Gradients.zeros(x, y)
            add_pairs(sums, x, y, scale, bias, image_groups, text_groups, chunk_size)
        return keep(ctx, sums, inputs, len(images))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_gradients(ctx, upstream), None, None, None


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # a device of shapes only, say


def exact(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """The two embeddings and the two scalars in one dtype, the scalars without dimensions."""
    images, texts, *scalars = map(at_least_float32, tensors)
    return [images, texts.to(images.dtype), *(scalar.reshape(()).to(images.dtype) for scalar in scalars)]


def keep(ctx: Any, sums: Gradients, inputs: tuple[Tensor, ...], count: int) -> Tensor:
    """Saves the gradients of the loss and gives the loss.

    They stay wide until the upstream gradient is in them: a loss scale must come before float16.
    """
    gradients = (sums.images, sums.texts, sums.logit_scale, sums.logit_bias)
    ctx.save_for_backward(
        *(
            gradient.div_(count).reshape(given.shape)
            for gradient, given in zip(gradients, inputs, strict=True)
        )
    )
    ctx.dtypes = [given.dtype for given in inputs]
    return sums.total / count


def scaled_gradients(ctx: Any, upstream: Tensor) -> list[Tensor | None]:
    refuse_second_derivatives()
    return [
        (gradient * upstream).to(dtype) if needed else None
        for gradient, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad, strict=False)
    ]
