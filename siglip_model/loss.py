"""The pairwise sigmoid loss of SigLIP (https://arxiv.org/abs/2303.15343), from logits."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def sigmoid_loss(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Every image-text pair is one yes-or-no question: -sum log sigmoid(+-z) / rows.

    `logits` is [n, m]; `targets` is a boolean [n, m] saying which pairs belong together. Without
    it the diagonal does. Computed in float32, whatever the logits are, with one buffer of their
    size. For batches whose logits do not fit see `chunked_loss` and `distributed_loss`.
    """
    if targets is None and logits.shape[0] != logits.shape[1]:
        raise ValueError(f"{logits.shape[0]} rows and {logits.shape[1]} columns need targets")
    if targets is not None and (targets.dtype != torch.bool or targets.shape != logits.shape):
        raise ValueError(
            f"targets must be torch.bool {list(logits.shape)}, not {targets.dtype} {list(targets.shape)}"
        )
    loss: Tensor = _SigmoidLoss.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss


class _SigmoidLoss(torch.autograd.Function):
    """The loss of a pair is softplus(z) for a false one and softplus(-z) for a true one.

    Signs are turned first: softplus(z) - z, which is the same, would cancel to noise in a trained
    model, whose true pairs have large z and small losses.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor | None) -> Tensor:
        ctx.save_for_backward(logits, targets)
        z = wide_copy(logits)
        turn_true_pairs(z, targets)
        return softplus_(z).sum() / z.shape[0]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivatives()
        logits, targets = ctx.saved_tensors
        gradient = wide_copy(logits)
        turn_true_pairs(gradient, targets)
        turn_true_pairs(gradient.sigmoid_(), targets)
        return gradient.mul_(upstream / logits.shape[0]).to(logits.dtype), None


def refuse_second_derivatives() -> None:
    """`once_differentiable` lets them through as zeros where the upstream gradient is a constant."""
    if torch.is_grad_enabled():
        raise NotImplementedError("the sigmoid losses have no second derivatives: create_graph must be False")


def turn_true_pairs(z: Tensor, targets: Tensor | None) -> None:
    if targets is None:
        z.diagonal().neg_()
    else:
        z[targets] = -z[targets]


def softplus_(z: Tensor) -> Tensor:
    """log(1 + exp(z)) in z's place."""
    return torch.logaddexp(z, z.new_zeros(()), out=z)


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def wide_copy(x: Tensor) -> Tensor:
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32, copy=True)


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
