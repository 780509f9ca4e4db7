"""Vectors as they come over the wire -> float32 arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from grpc import StatusCode
from siglip.v1 import types_pb2

from siglip_client.errors import InternalError, ItemError

WireDtype = Literal["f32", "f16", "bf16", "i8"]

WIRE_DTYPES: dict[str, types_pb2.Dtype] = {
    "f32": types_pb2.DTYPE_F32,
    "f16": types_pb2.DTYPE_F16,
    "bf16": types_pb2.DTYPE_BF16,
    "i8": types_pb2.DTYPE_I8,
}

# Reason of an item's error that is this client's own.
DTYPE_UNKNOWN = "DTYPE_UNKNOWN"

# bfloat16 is read as the upper half of a float32.
_STORED: dict[int, np.dtype[Any]] = {
    types_pb2.DTYPE_F32: np.dtype("<f4"),
    types_pb2.DTYPE_F16: np.dtype("<f2"),
    types_pb2.DTYPE_BF16: np.dtype("<u2"),
    types_pb2.DTYPE_I8: np.dtype("i1"),
}


def known(vector: types_pb2.Vector) -> bool:
    """Whether `decode` knows the encoding: a newer service may have one that it does not."""
    return vector.dtype in _STORED


def unknown_encoding(vector: types_pb2.Vector, index: int, field: str) -> ItemError:
    """Why an item has no vector here that the service gave one."""
    message = f"{field} has a vector of dtype {vector.dtype}, which this client does not know; update it"
    return ItemError(index, StatusCode.UNIMPLEMENTED, DTYPE_UNKNOWN, message, field)


def decode(vectors: Sequence[types_pb2.Vector]) -> npt.NDArray[np.float32]:
    """Vectors of one dtype and length -> float32 [n, dim], scales applied."""
    dtype, dim = vectors[0].dtype, vectors[0].dim
    stored = _STORED.get(dtype)
    if stored is None:
        raise InternalError(f"the reply holds vectors of an unknown dtype {dtype}")
    for vector in vectors:
        if (vector.dtype, vector.dim, len(vector.data)) != (dtype, dim, dim * stored.itemsize):
            raise InternalError(f"the reply holds a vector of {len(vector.data)} bytes for {dim} numbers")
    raw = np.frombuffer(b"".join(vector.data for vector in vectors), stored).reshape(len(vectors), dim)
    if dtype == types_pb2.DTYPE_BF16:
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    floats: npt.NDArray[np.float32] = raw.astype(np.float32, copy=False)
    if dtype == types_pb2.DTYPE_I8:
        floats *= np.array([vector.scale for vector in vectors], np.float32)[:, None]
    return floats


def matrix(message: types_pb2.Matrix) -> npt.NDArray[np.float32]:
    """A Matrix -> float32 [rows, cols]."""
    expected = message.rows * message.cols * 4
    if len(message.data) != expected:
        size = f"[{message.rows}, {message.cols}]"
        raise InternalError(f"the reply holds a matrix {size} of {len(message.data)} bytes, not {expected}")
    return np.frombuffer(message.data, "<f4").reshape(message.rows, message.cols).astype(np.float32)
