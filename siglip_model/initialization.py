"""Starting weights with the reference's statistics, for training from scratch."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import init

from siglip_model.layers import MLP, Attention, PoolingHead, ProbeAttention


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """For `Module.apply`, which visits children first, so parents may overrule."""
    match module:
        case Attention():
            for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                init.xavier_uniform_(projection.weight)
        case MLP():
            for layer in (module.fc1, module.fc2):
                init.xavier_uniform_(layer.weight)
                init.normal_(layer.bias, std=1e-6)
        case PoolingHead():
            init.xavier_uniform_(module.probe)
        case ProbeAttention():
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
        case nn.Embedding():
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
        case nn.Linear() | nn.Conv2d():
            lecun_normal_(module.weight)
            init.zeros_(cast(Tensor, module.bias))


def lecun_normal_(weight: Tensor) -> None:
    """The reference divides by .8796 for a cut at two deviations, yet cuts at 2: std is kept."""
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    init.trunc_normal_(weight, std=std, a=-2.0, b=2.0)
