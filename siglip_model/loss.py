"""The pairwise sigmoid loss of SigLIP (https://arxiv.org/abs/2303.15343)."""

import torch.nn.functional as F
from torch import Tensor


def sigmoid_loss(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Every image-text pair is one yes-or-no question: -sum log sigmoid(+-z) / rows.

    `logits` is [n, m]; `targets` is a boolean [n, m] saying which pairs belong together. Without
    it the diagonal does. One buffer of the logits' size is enough, because log sigmoid(-z) is
    -softplus(z) and log sigmoid(z) is z - softplus(z).
    """
    logits = logits.float()
    if targets is None and logits.shape[0] != logits.shape[1]:
        raise ValueError(f"{logits.shape[0]} rows and {logits.shape[1]} columns need targets")
    agreeing = logits.diagonal() if targets is None else logits[targets]
    return (F.softplus(logits).sum() - agreeing.sum()) / logits.shape[0]
