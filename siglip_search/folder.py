"""A folder that `siglip embed` filled, complete or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from siglip_search.errors import SearchError
from siglip_search.manifests import Place, fingerprint, places
from siglip_search.parts import NpyPart, ParquetPart, Part

Kind = Literal["images", "texts"]
Unit = npt.NDArray[np.float32]

BLOCK_BYTES = 32 * 1024 * 1024
"""Of float32 vectors that are held at a time."""

ID_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Row:
    """Where a vector is, and whose it is."""

    number: int
    """Over all parts, in their order."""
    id: str


class EmbeddedFolder:
    """The rows that are in the folder now; what a job adds later is not seen.

    `path` is what a job was given as --out: if it ran in shares (--shard), all that are there are one folder.
    Raises SearchError if it is no such folder, or holds files that do not fit.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._places = places(self.path)
        self.manifest = self._places[0].manifest
        self.dim: int = self.manifest["embedding_dim"]
        self.parts = [part for place in self._places for part in self._parts(place)]
        self._starts = [0, *accumulate(part.rows for part in self.parts)]

    @property
    def fingerprint(self) -> str:
        """Of the model that made the vectors."""
        return fingerprint(self.manifest)

    @property
    def model_name(self) -> str:
        return str(self.manifest["model"].get("name", "?"))

    @property
    def kind(self) -> Kind:
        """What was embedded."""
        source = self.manifest.get("source", {})
        lines_of_text = source.get("kind") == "lines" and not source.get("paths")
        return "texts" if lines_of_text or source.get("text_column") else "images"

    @property
    def complete(self) -> bool:
        """Whether the job has ended, in all its shares."""
        finished = all(place.manifest.get("finished") for place in self._places)
        return finished and len(self._places) == self._places[0].shares

    @property
    def rows(self) -> int:
        return self._starts[-1]

    def blocks(self, first: int = 0, rows: int | None = None) -> Iterator[tuple[int, Unit]]:
        """(number of its first row, vectors) of all rows from `first` on: float32 [n, dim] of length 1.

        Rows that failed, and those that have no direction (NaN, infinite, all zero), are rows of NaN.
        """
        size = rows or self._block_rows
        for part, start in zip(self.parts, self._starts, strict=False):
            if start + part.rows <= first:
                continue
            at = start
            for block in part.blocks(size):
                skipped = max(0, first - at)
                if skipped < len(block):
                    yield at + skipped, unit(block[skipped:])
                at += len(block)

    def items(self) -> Iterator[tuple[list[str], Unit]]:
        """(ids, vectors) of the rows that have a vector: float32 [n, dim] of length 1."""
        size = self._block_rows
        for part in self.parts:
            for names, block in zip(part.id_blocks(size), part.blocks(size), strict=True):
                vectors = unit(block)
                right = ~np.isnan(vectors[:, 0])
                yield [name for name, good in zip(names, right, strict=True) if good], vectors[right]

    def ids(self, numbers: Sequence[int]) -> list[str]:
        """The ids of some rows, in the order asked."""
        found: dict[int, str] = {}
        for part, start in zip(self.parts, self._starts, strict=False):
            if here := sorted({n for n in numbers if start <= n < start + part.rows}):
                found |= zip(here, part.ids([n - start for n in here]), strict=True)
        return [found[number] for number in numbers]

    def find(self, ids: Sequence[str]) -> list[Row]:
        """The rows of ids. Raises SearchError for one that is not here."""
        found: dict[str, int] = {}
        wanted = set(ids)
        for number, name in enumerate(self._all_ids() if wanted else ()):
            if name in wanted:
                found[name] = number
        wanted -= found.keys()
        if wanted:
            raise SearchError(f"{self.path} has no row with the id {next(n for n in ids if n in wanted)!r}")
        return [Row(found[name], name) for name in ids]

    def vectors(self, rows: Sequence[Row]) -> Unit:
        """Their vectors, float32 [n, dim] of length 1. Raises SearchError for a row that failed."""
        found = np.stack([next(self.blocks(row.number))[1][0] for row in rows])
        for row, vector in zip(rows, found, strict=True):
            if np.isnan(vector).any():
                raise SearchError(f"{row.id!r} has no vector in {self.path}: it failed")
        return found

    @property
    def _block_rows(self) -> int:
        return max(1, BLOCK_BYTES // (4 * self.dim))

    def _all_ids(self) -> Iterator[str]:
        return (name for part in self.parts for block in part.id_blocks(ID_ROWS) for name in block)

    def _parts(self, place: Place) -> Iterator[Part]:
        if fingerprint(place.manifest) != self.fingerprint or place.manifest["embedding_dim"] != self.dim:
            raise SearchError(
                f"{place.path} ({fingerprint(place.manifest)}) and {self._places[0].path} "
                f"({self.fingerprint}) are of different models: search one of them"
            )
        for name, rows in place.parts():
            kind = ParquetPart if name.endswith(".parquet") else NpyPart
            part = kind(place.path / name, self.dim)
            if part.rows != rows:
                raise SearchError(f"{part.path} has {part.rows} rows, and manifest.json says {rows}")
            yield part


def unit(vectors: npt.NDArray[np.floating[Any]]) -> Unit:
    """float32 rows of length 1, of NaN where there is no direction."""
    wide = vectors.astype(np.float32)  # a copy: the file's numbers stay
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    length[~np.isfinite(length) | (length == 0)] = np.nan
    with np.errstate(invalid="ignore"):  # damaged numbers are no news where NaN is the answer
        wide /= length[:, None]
    return wide
