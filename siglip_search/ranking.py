"""Exact search: every row is compared with every query, and the best are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from siglip_search.errors import SearchError
from siglip_search.folder import BLOCK_BYTES, EmbeddedFolder, Unit, unit


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the folder that is near a query."""

    number: int
    id: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Found:
    """`hits`: for each query, the best first. `failed`: rows without a vector, which no query can find."""

    hits: list[list[Hit]]
    rows: int
    failed: int


@dataclass(slots=True)
class _Best:
    """The best rows that one query has met so far, the best first; equal ones in the folder's order."""

    top_k: int
    cosines: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]

    def meet(self, cosines: npt.NDArray[np.float32], first: int) -> None:
        # Most blocks of a large folder hold few that could still get in.
        least = self.cosines[-1] if len(self.cosines) == self.top_k else -np.inf
        (near,) = np.nonzero(cosines > least)
        if len(near) > self.top_k:
            bar = np.partition(cosines[near], -self.top_k)[-self.top_k]
            near = near[cosines[near] >= bar]
        cosines = np.concatenate([self.cosines, cosines[near]])
        order = np.argsort(-cosines, kind="stable")[: self.top_k]
        self.cosines = cosines[order]
        self.numbers = np.concatenate([self.numbers, near + first])[order]


def search(folder: EmbeddedFolder, queries: npt.NDArray[np.floating[Any]], top_k: int) -> Found:
    """The `top_k` rows of largest cosine for each query; fewer where the folder has fewer.

    queries: [n, dim] of any length but zero. Raises SearchError for queries of another size, or without
    a direction, and for a top_k below 1.
    """
    if top_k < 1:
        raise SearchError(f"top_k is {top_k}; it must be at least 1")
    directions = _directions(queries, folder.dim)
    best = [_Best(top_k, np.empty(0, np.float32), np.empty(0, np.int64)) for _ in directions]
    failed = 0
    # Many queries make the cosines of a block larger than its vectors.
    for first, vectors in folder.blocks(rows=max(1, BLOCK_BYTES // (4 * max(folder.dim, len(best))))):
        failed += int(np.isnan(vectors[:, 0]).sum())
        # NaN is never larger than anything, so that failed rows fall out by themselves.
        cosines = directions @ vectors.T
        for each, row in zip(best, cosines, strict=True):
            each.meet(row, first)
    numbers = np.concatenate([each.numbers for each in best]).tolist()
    names = dict(zip(numbers, folder.ids(numbers), strict=True))
    hits = [
        [Hit(n, names[n], c) for n, c in zip(each.numbers.tolist(), each.cosines.tolist(), strict=True)]
        for each in best
    ]
    return Found(hits, folder.rows, failed)


def _directions(queries: npt.NDArray[np.floating[Any]], dim: int) -> Unit:
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise SearchError(
            f"queries have the shape {list(queries.shape)}; the folder's vectors have {dim} numbers"
        )
    directions = unit(queries)
    if np.isnan(directions).any():
        raise SearchError("a query has no direction: it is all zero, or not finite")
    return directions
