"""What a batch is: rows of equal shape in, one vector per row out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

RowDtype = Literal["int32", "uint8"]
Rows = NDArray[Any]  # [n, *row_shape], of the tower's dtype


@dataclass(frozen=True, slots=True)
class Vectors:
    units: NDArray[np.float32]
    """[n, dim], each of length one."""
    norms: NDArray[np.float32]
    """[n], the length each vector had."""

    def finite(self) -> NDArray[np.bool_]:
        """[n]: which rows are usable. A vector of length zero has no direction: its unit vector is NaN."""
        usable: NDArray[np.bool_] = np.isfinite(self.units).all(axis=1) & np.isfinite(self.norms)
        return usable

    @staticmethod
    def join(parts: Sequence["Vectors"]) -> "Vectors":
        return Vectors(np.concatenate([p.units for p in parts]), np.concatenate([p.norms for p in parts]))


class Tower(Protocol):
    """Anything that turns rows into vectors: the model, or a stand-in."""

    row_shape: tuple[int, ...]
    """[text_length] or [3, height, width]."""
    dtype: RowDtype
    dim: int

    def run(self, rows: Rows) -> Vectors:
        """One run of the device. Raises MemoryError when the batch is too large for it, and any other
        exception when a row cannot be computed."""
        ...


def pack(payloads: Sequence[bytes], tower: Tower) -> Rows:
    """Joins the raw tensors of several jobs into one writable array [n, *row_shape]; copies once."""
    return np.frombuffer(bytearray().join(payloads), tower.dtype).reshape(-1, *tower.row_shape)
