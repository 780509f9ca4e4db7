"""The pairwise sigmoid loss of SigLIP (https://arxiv.org/abs/2303.15343), from logits."""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sigmoid_loss(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Every image-text pair is one yes-or-no question: -sum log sigmoid(+-z) / rows.

    `logits` is [n, m]; `targets` is a boolean [n, m] saying which pairs belong together. Without
    it the diagonal does. Computed in float32, whatever the logits are, with one buffer of their
    size: log sigmoid(-z) is -softplus(z) and log sigmoid(z) is z - softplus(z), and the gradient is
    sigmoid(z) - target. For batches whose logits do not fit see `chunked_loss` and `distributed_loss`.
    """
    if targets is None and logits.shape[0] != logits.shape[1]:
        raise ValueError(f"{logits.shape[0]} rows and {logits.shape[1]} columns need targets")
    loss: Tensor = _SigmoidLoss.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor | None) -> Tensor:
        ctx.save_for_backward(logits, targets)
        z = at_least_float32(logits)
        agreeing = z.diagonal() if targets is None else z[targets]
        return (F.softplus(z).sum() - agreeing.sum()) / z.shape[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        gradient = at_least_float32(logits).sigmoid()
        if targets is None:
            gradient.diagonal().sub_(1)
        else:
            gradient.sub_(targets.to(gradient.dtype))
        return gradient.mul_(upstream / logits.shape[0]).to(logits.dtype), None


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class HasScaleAndBias(Protocol):
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter


@torch.no_grad()
def scale_and_bias_for_training(model: HasScaleAndBias, scale: float = 10.0, bias: float = -10.0) -> None:
    """The paper's starting values for training from scratch (section 3.2); new models have 1 and 0.

    At first nearly all pairs of a batch are false: the bias makes them improbable from the first
    step. A fine-tuned checkpoint keeps its own.
    """
    model.logit_scale.fill_(math.log(scale))
    model.logit_bias.fill_(bias)
