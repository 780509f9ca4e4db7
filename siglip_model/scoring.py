"""From vectors to probabilities: p_ij = sigmoid(scale * x_i . y_j + bias). numpy only, float32."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DEFAULT_TEMPLATE = "This is a photo of {}."


def fill(template: str, label: str) -> str:
    """Plain replacement, never `str.format`: a label or template may hold any other braces.

    Raises ValueError unless the template holds exactly one `{}`.
    """
    count = template.count("{}")
    if count != 1:
        raise ValueError(f"a template must hold exactly one '{{}}', {template!r} holds {count}")
    return template.replace("{}", label)


def unit(vectors: Floats) -> Floats:
    """[..., D] -> [..., D] of length 1; a vector of zeros stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length == 0, 1, length), dtype=np.float32)


def ensemble(vectors: Floats) -> Floats:
    """Unit vectors of each label under each template [L, T, D] -> one unit vector a label [L, D]."""
    return unit(vectors.mean(axis=1, dtype=np.float32)) if vectors.shape[1] > 1 else vectors[:, 0]


def cosines(images: Floats, texts: Floats) -> Floats:
    """Unit vectors [n, D] and [m, D] -> [n, m]."""
    return np.asarray(images @ texts.T, dtype=np.float32)


def logits(images: Floats, texts: Floats, scale: float, bias: float) -> Floats:
    """Unit vectors [n, D] and [m, D] -> [n, m]; `scale` is the multiplier, not its logarithm."""
    return cosines(images, texts) * np.float32(scale) + np.float32(bias)


def sigmoid(z: Floats) -> Floats:
    """Without overflow for any z: only exp(-|z|) is ever taken."""
    decay = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, decay) / (1 + decay), dtype=np.float32)


def softmax(z: Floats) -> Floats:
    """Over the last axis."""
    weights = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float32)


def rank(probabilities: Floats | Sequence[float], top_k: int = 0, threshold: float = 0.0) -> list[int]:
    """Indices of one row [m], highest first, equal ones in their order.

    Keeps those of at least `threshold` (0: all), then the first `top_k` (0: all).
    """
    row = np.asarray(probabilities, dtype=np.float32)
    order = np.argsort(-row, kind="stable")
    kept = [int(index) for index in order if threshold <= 0 or row[index] >= threshold]
    return kept[:top_k] if top_k > 0 else kept
