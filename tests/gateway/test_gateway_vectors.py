"""Encodings: rounding, scale, and the worker's own bytes."""

import numpy as np
import pytest
from siglip.v1 import types_pb2

from broker import Row
from gateway.vectors import encode, matrix


def row(values: list[float] | np.ndarray, norm: float = 1.0) -> Row:
    return Row(np.asarray(values, "<f4").tobytes(), norm)


def test_float32_passes_the_workers_bytes_through() -> None:
    given_row = row([0.6, -0.8])
    (vector,) = encode([given_row], types_pb2.DTYPE_UNSPECIFIED, normalize=True)
    assert vector.data == given_row.vector
    assert (vector.dtype, vector.dim, vector.scale) == (types_pb2.DTYPE_F32, 2, 1.0)


def test_without_normalize_the_norm_comes_back() -> None:
    (vector,) = encode([row([0.6, -0.8], norm=5.0)], types_pb2.DTYPE_F32, normalize=False)
    np.testing.assert_array_equal(np.frombuffer(vector.data, "<f4"), np.float32([3, -4]))


# A float32 between two bfloat16 neighbours goes to the nearer; half way, to the even one.
BF16 = {
    0x3F80_0000: 0x3F80,
    0x3F80_7FFF: 0x3F80,
    0x3F80_8000: 0x3F80,
    0x3F80_8001: 0x3F81,
    0x3F81_8000: 0x3F82,
    0xBF81_8000: 0xBF82,
    0x0000_0000: 0x0000,
    0x3F7F_FFFF: 0x3F80,
}


@pytest.mark.parametrize("bits", BF16)
def test_bfloat16_rounds_to_nearest_even(bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    (vector,) = encode([row(value)], types_pb2.DTYPE_BF16, normalize=True)
    assert np.frombuffer(vector.data, "<u2")[0] == BF16[bits]


def test_float16_rounds_to_nearest_even() -> None:
    half_way = 1 + 2**-11
    (vector,) = encode([row([half_way, half_way + 2**-20])], types_pb2.DTYPE_F16, normalize=True)
    np.testing.assert_array_equal(np.frombuffer(vector.data, "<f2"), np.float16([1, 1 + 2**-10]))


@pytest.mark.parametrize("largest", [1.0, 0.004, 1e-20, 80.0])
def test_scaled_bytes_are_within_half_a_step(largest: float) -> None:
    draw = np.random.default_rng(0)
    values = draw.uniform(-largest, largest, (50, 7)).astype(np.float32)
    vectors = encode([row(v) for v in values], types_pb2.DTYPE_I8, normalize=True)
    for truth, vector in zip(values, vectors, strict=True):
        coded = np.frombuffer(vector.data, np.int8)
        assert np.abs(coded).max() == 127
        assert vector.scale == pytest.approx(np.abs(truth).max() / 127, rel=1e-6)
        assert np.abs(coded * vector.scale - truth).max() <= vector.scale * 0.5001


def test_a_vector_of_zeros_survives_scaled_bytes() -> None:
    (vector,) = encode([row([0, 0])], types_pb2.DTYPE_I8, normalize=True)
    assert (vector.data, vector.scale) == (b"\0\0", 1.0)


def test_nothing_to_encode() -> None:
    assert encode([], types_pb2.DTYPE_F16, normalize=False) == []


def test_matrix_keeps_the_order() -> None:
    np.testing.assert_array_equal(matrix([row([1, 2]), row([3, 4])]), np.float32([[1, 2], [3, 4]]))
