"""Probabilities from vectors: against plain float64 arithmetic, and at the edges."""

import math
import warnings

import numpy as np
import pytest
import torch

from siglip_model import scoring


def units(rows: int, seed: int = 0, dim: int = 16) -> np.ndarray:
    return scoring.unit(np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32))


def test_a_template_is_filled_by_plain_replacement() -> None:
    assert scoring.fill(scoring.DEFAULT_TEMPLATE, "cat") == "This is a photo of cat."
    assert scoring.fill("{x} {} {0}", "{} {y}") == "{x} {} {y} {0}"


@pytest.mark.parametrize(("template", "count"), [("a photo", 0), ("", 0), ("{} and {}", 2), ("{x}", 0)])
def test_a_template_must_hold_one_place(template: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"exactly one '{{}}'.*holds {count}"):
        scoring.fill(template, "cat")


def test_logits_are_scale_times_cosine_plus_bias() -> None:
    images, texts = units(3), units(5, seed=1)
    logits = scoring.logits(images, texts, 112.33, -16.5)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(
        logits, images.astype(float) @ texts.T.astype(float) * 112.33 - 16.5, atol=2e-5
    )
    np.testing.assert_allclose(scoring.cosines(images, images).diagonal(), 1, atol=1e-6)


def test_sigmoid_of_any_number() -> None:
    z = np.float32([-1e38, -1000, -104, -88, -20, -1, -0.0, 0, 1, 20, 88, 1000, 1e38, np.inf, -np.inf])
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        p = scoring.sigmoid(z)
    assert p.dtype == np.float32
    assert ((p >= 0) & (p <= 1)).all()
    exact = [1 / (1 + math.exp(-value)) if value > -700 else 0 for value in z.astype(float)]
    np.testing.assert_allclose(p, exact, rtol=3e-7, atol=1e-44)
    assert scoring.sigmoid(np.float32([0]))[0] == 0.5
    np.testing.assert_allclose(p, torch.from_numpy(z).sigmoid(), rtol=1e-6, atol=1e-44)


def test_sigmoid_passes_nan_on() -> None:
    """Rows of failed items are NaN in a score matrix, and stay NaN."""
    assert np.isnan(scoring.sigmoid(np.float32([np.nan]))).all()


def test_softmax() -> None:
    z = np.float32([[0, 1, 2], [1000, 0, -1000], [-1000, -1000, -1000]])
    p = scoring.softmax(z)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, torch.from_numpy(z).softmax(-1), rtol=1e-6, atol=1e-44)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)


def test_one_template_passes_vectors_through_untouched() -> None:
    vectors = units(4)
    np.testing.assert_array_equal(scoring.ensemble(vectors[:, None]), vectors)


def test_several_templates_are_the_mean_made_unit() -> None:
    vectors = np.stack([units(4), units(4, seed=1), units(4, seed=2)], axis=1)
    mean = vectors.astype(float).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    result = scoring.ensemble(vectors)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_vector_of_zeros_stays_zero() -> None:
    opposite = np.stack([units(1), -units(1)], axis=1)
    assert not scoring.ensemble(opposite).any()


@pytest.mark.parametrize(
    ("top_k", "threshold", "expected"),
    [
        (0, 0.0, [1, 0, 3, 2]),
        (2, 0.0, [1, 0]),
        (99, 0.0, [1, 0, 3, 2]),
        (0, 0.5, [1, 0, 3]),
        (0, 0.91, []),
        (1, 0.5, [1]),
    ],
)
def test_ranking(top_k: int, threshold: float, expected: list[int]) -> None:
    assert scoring.rank([0.5, 0.9, 0.1, 0.5], top_k, threshold) == expected
