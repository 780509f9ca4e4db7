"""The sigmoid loss of a batch that is spread over processes: texts travel round a ring.

Each process meets every other's texts with its own images, so no process ever holds more logits
than its own batch squared. The gradient of a block of texts travels with the block and is whole
when the block comes home: everything is exchanged in the forward pass, in the same order
everywhere, and the backward pass, which other collectives may interleave with, only multiplies.
With W processes of b texts each process sends about 2 W b D numbers a step.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_model.chunked_loss import (
    CHUNK_SIZE,
    Gradients,
    add_pairs,
    chunked_sigmoid_loss,
    exact,
    groups_of,
    keep,
    scaled_gradients,
    without_autocast,
)

Group = Any  # a torch.distributed.ProcessGroup, or None for all processes


def ring_sigmoid_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    image_groups: Tensor | None = None,
    text_groups: Tensor | None = None,
    group: Group = None,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """This process's share of the loss over the whole batch, divided by its own number of images.

    The mean over processes of this value is the loss of the whole batch, and the mean of the
    gradients, which DistributedDataParallel takes, is that loss's gradient. The upstream gradient
    (a loss scale, say) must be the same everywhere. Arguments are those of `chunked_sigmoid_loss`,
    and groups hold across processes. Without processes it is that function.

    Raises ValueError in every process when their batches differ in size.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) == 1:
        return chunked_sigmoid_loss(
            image_embeds,
            text_embeds,
            logit_scale,
            logit_bias,
            image_groups=image_groups,
            text_groups=text_groups,
            chunk_size=chunk_size,
        )
    given = image_groups is not None
    check_equal_batches(image_embeds, text_embeds, image_groups, text_groups, group)
    image_groups, text_groups = groups_of(image_embeds, text_embeds, image_groups, text_groups)
    if not given:  # number the pairs of all processes
        first = dist.get_rank(group) * len(image_embeds)
        image_groups, text_groups = image_groups + first, text_groups + first
    loss: Tensor = _RingLoss.apply(  # type: ignore[no-untyped-call]
        image_embeds, text_embeds, logit_scale, logit_bias, image_groups, text_groups, chunk_size, group
    )
    return loss


def check_equal_batches(
    images: Tensor, texts: Tensor, image_groups: Tensor | None, text_groups: Tensor | None, group: Group
) -> None:
    """First of all: a process that stops alone, for whatever is wrong, leaves the others waiting for ever."""
    given = [-1 if groups is None else len(groups) for groups in (image_groups, text_groups)]
    sizes = [len(images), len(texts), images.shape[-1], texts.shape[-1], *given]
    mine = torch.tensor(sizes, device=images.device)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, mine, group=group)
    by_rank = [described(*size.tolist()) for size in gathered]
    if len(set(by_rank)) > 1:
        raise ValueError(
            f"every process needs a batch of the same size; by rank they have {', '.join(by_rank)}"
        )


def described(n: int, m: int, width: int, text_width: int, image_groups: int, text_groups: int) -> str:
    widths = f"{width}" if width == text_width else f"{width} and {text_width}"
    groups = "" if image_groups == text_groups == -1 else f" in {image_groups} and {text_groups} groups"
    return f"{n} images and {m} texts of width {widths}{groups.replace('-1', 'no')}"


class _RingLoss(torch.autograd.Function):
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
        group: Group,
    ) -> Tensor:
        inputs = (images, texts, logit_scale, logit_bias)
        with without_autocast(images.device):
            x, y, scale, bias = exact(inputs)
            sums = Gradients.zeros(x, y)
            for stops_left in reversed(range(dist.get_world_size(group))):
                add_pairs(sums, x, y, scale, bias, image_groups, text_groups, chunk_size)
                if stops_left:
                    y, text_groups, sums.texts = pass_on([y, text_groups, sums.texts], group)
                else:
                    (sums.texts,) = pass_on([sums.texts], group)
        return keep(ctx, sums, inputs, len(images))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_gradients(ctx, upstream), None, None, None, None


def pass_on(tensors: list[Tensor], group: Group) -> list[Tensor]:
    """To the next process of the ring; what the one before had comes back."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    after, before = (neighbour(group, (rank + step) % world) for step in (1, -1))
    received = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in tensors]
    sends = [dist.P2POp(dist.isend, tensor.contiguous(), after, group) for tensor in tensors]
    receipts = [dist.P2POp(dist.irecv, tensor, before, group) for tensor in received]
    for request in dist.batch_isend_irecv([*sends, *receipts]):
        request.wait()
    return received


def neighbour(group: Group, rank: int) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)
