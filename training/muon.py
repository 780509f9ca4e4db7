"""Muon (https://kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal.

It learns the demo model from half of the scenes that AdamW needs. Matrices of equal shape are
stacked, because one product of many small matrices is much quicker than many small products.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon:
    def __init__(
        self, matrices: Iterable[nn.Parameter], *, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        by_shape = defaultdict[torch.Size, list[nn.Parameter]](list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        self.stacks = list(by_shape.values())
        self.averages = [torch.stack([torch.zeros_like(p) for p in stack]) for stack in self.stacks]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for stack, average in zip(self.stacks, self.averages, strict=True):
            gradients = torch.stack([p.grad for p in stack if p.grad is not None])
            average.lerp_(gradients, 1 - self.momentum)
            change = orthogonal(gradients.lerp(average, self.momentum))
            rows, columns = change.shape[1:]
            step = -learning_rate * max(1, rows / columns) ** 0.5
            for p, direction in zip(stack, change, strict=True):
                p.mul_(1 - learning_rate * self.weight_decay).add_(direction, alpha=step)


def orthogonal(x: Tensor) -> Tensor:
    """[n, rows, columns] -> nearly the nearest matrices with singular values 1, by Newton-Schulz."""
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT).mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x
