"""Encodes embeddings as the caller asked: float32, float16, bfloat16 or scaled bytes."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from siglip.v1 import types_pb2

from broker import Row

Floats = npt.NDArray[np.float32]
Encoded = tuple[list[bytes], Sequence[float]]


def encode(rows: Sequence[Row], dtype: types_pb2.Dtype, normalize: bool) -> list[types_pb2.Vector]:
    """One message for each row. DTYPE_UNSPECIFIED means float32; other dtypes must be known ones."""
    if not rows:
        return []
    dtype = dtype or types_pb2.DTYPE_F32
    if dtype == types_pb2.DTYPE_F32 and normalize:
        # The worker's bytes are already what the caller wants.
        data: list[bytes] = [row.vector for row in rows]
        scales: Sequence[float] = [1.0] * len(rows)
    else:
        data, scales = ENCODERS[dtype](matrix(rows, normalize))
    dim = len(rows[0].vector) // 4
    return [
        types_pb2.Vector(data=part, dtype=dtype, dim=dim, scale=scale)
        for part, scale in zip(data, scales, strict=True)
    ]


def matrix(rows: Sequence[Row], normalize: bool = True) -> Floats:
    """float32 [n, dim] of n > 0 rows: unit vectors, or of the length that the model gave them."""
    values = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(len(rows), -1)
    if normalize:
        return values
    return values * np.array([row.norm for row in rows], np.float32)[:, None]


def _f32(values: Floats) -> Encoded:
    return _split(values.astype("<f4")), [1.0] * len(values)


def _f16(values: Floats) -> Encoded:
    return _split(values.astype("<f2")), [1.0] * len(values)


def _bf16(values: Floats) -> Encoded:
    """The upper half of each float32, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return _split((rounded >> 16).astype("<u2")), [1.0] * len(values)


def _i8(values: Floats) -> Encoded:
    scales = np.abs(values).max(axis=1) / np.float32(127)
    # A vector of zeros would divide by zero; with scale 1 its bytes are zeros as well.
    scales = np.where(scales > 0, scales, np.float32(1))
    return _split(np.rint(values / scales[:, None]).astype(np.int8)), scales.tolist()


def _split(values: npt.NDArray[np.generic]) -> list[bytes]:
    return [row.tobytes() for row in values]


ENCODERS: dict[int, Callable[[Floats], Encoded]] = {
    types_pb2.DTYPE_F32: _f32,
    types_pb2.DTYPE_F16: _f16,
    types_pb2.DTYPE_BF16: _bf16,
    types_pb2.DTYPE_I8: _i8,
}
