"""Near-duplicates: every row is compared with every other; what is joined by a chain of pairs is a group."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from siglip_search.errors import SearchError
from siglip_search.folder import EmbeddedFolder, Unit

Numbers = npt.NDArray[np.int64]

TILE_ROWS = 2048
ROUNDING = 1e-6
"""By which the computed cosine of two equal vectors may differ from 1."""


@dataclass(frozen=True, slots=True)
class Member:
    """`cosine`: to the nearest other row of the folder."""

    number: int
    id: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Group:
    """Two or more rows, in the folder's order."""

    members: list[Member]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The largest group first."""

    groups: list[Group]
    rows: int
    failed: int


def near_duplicates(folder: EmbeddedFolder, threshold: float) -> Duplicates:
    """Groups of rows with cosines of at least `threshold`, above 0 and at most 1.

    In a group each row is that near to some other, not to all. Time grows with the square of the rows;
    memory is 12 bytes for each row beside two blocks of vectors. Raises SearchError for another threshold.
    """
    if not 0 < threshold <= 1:
        raise SearchError(f"threshold is {threshold}; it must be above 0 and at most 1")
    links = _Links(folder.rows)
    failed = 0
    for first, vectors in folder.blocks():
        failed += int(np.isnan(vectors[:, 0]).sum())
        for other, others in folder.blocks(first):
            _compare(links, (first, vectors), (other, others), threshold - ROUNDING)
    return Duplicates(_groups(folder, links), folder.rows, failed)


class _Links:
    """Which rows belong together. Each row points at an earlier one of its group, the first at itself."""

    def __init__(self, rows: int) -> None:
        self._before: Numbers = np.arange(rows)
        self.nearest = np.zeros(rows, np.float32)

    def join(self, one: Numbers, other: Numbers) -> None:
        """Each of `one` with its neighbour in `other`."""
        while True:
            a, b = self.first_of(one), self.first_of(other)
            apart = a != b
            if not apart.any():
                return
            one, other, a, b = one[apart], other[apart], a[apart], b[apart]
            # Of several who would lead the same row one wins; the others take the next round.
            self._before[np.maximum(a, b)] = np.minimum(a, b)

    def first_of(self, rows: Numbers) -> Numbers:
        """The first row of the group of each; the way there is short the next time."""
        before = self._before[rows]
        while (before != (further := self._before[before])).any():
            self._before[rows] = before = further
        return before


def _compare(links: _Links, left: tuple[int, Unit], right: tuple[int, Unit], least: float) -> None:
    """In tiles, since the cosines of two whole blocks would be large."""
    (first, rows), (other, columns) = left, right
    for top in range(0, len(rows), TILE_ROWS):
        for start in range(0, len(columns), TILE_ROWS):
            if other + start + TILE_ROWS > first + top:  # not a pair of tiles that was met already
                cosines = rows[top : top + TILE_ROWS] @ columns[start : start + TILE_ROWS].T
                _link(links, cosines, first + top, other + start, least)


def _link(links: _Links, cosines: Unit, top: int, left: int, least: float) -> None:
    near = cosines >= least
    if top + len(cosines) > left:  # the diagonal runs through: each pair once, none with itself
        rows, columns = np.arange(near.shape[0]) + top, np.arange(near.shape[1]) + left
        near &= columns > rows[:, None]
    one, other = np.nonzero(near)
    if not len(one):
        return
    found = np.minimum(cosines[one, other], 1)
    one, other = one + top, other + left
    np.maximum.at(links.nearest, one, found)
    np.maximum.at(links.nearest, other, found)
    links.join(one, other)


def _groups(folder: EmbeddedFolder, links: _Links) -> list[Group]:
    (numbers,) = np.nonzero(links.nearest)
    leaders = links.first_of(numbers)
    order = np.argsort(leaders, kind="stable")
    members = [
        Member(number, name, cosine)
        for number, name, cosine in zip(
            numbers[order].tolist(),
            folder.ids(numbers[order].tolist()),
            links.nearest[numbers[order]].tolist(),
            strict=True,
        )
    ]
    starts = np.flatnonzero(np.diff(leaders[order], prepend=-1)).tolist()
    groups = [Group(members[start:end]) for start, end in pairwise([*starts, len(members)])]
    return sorted(groups, key=lambda group: -len(group.members))
