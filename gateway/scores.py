"""From embedded images and texts to cosines. An item that failed is a vector of zeros here."""

import numpy as np

from gateway.embedded import Embedded
from gateway.errors import LabelFailed
from gateway.vectors import Floats, matrix
from siglip_model import scoring


def label_vectors(texts: Embedded, templates: int) -> Floats:
    """One unit vector for each label [labels, dim] from those of its prompts. Raises LabelFailed."""
    for position, failure in texts.failures():
        raise LabelFailed(position // templates, failure)
    vectors = matrix(texts.rows())
    return scoring.ensemble(vectors.reshape(-1, templates, vectors.shape[1]))


def unit_vectors(embedded: Embedded, dim: int) -> Floats:
    """[items, dim]; zeros where an item failed."""
    vectors = np.zeros((len(embedded.items), dim), np.float32)
    failed = dict(embedded.failures())
    if len(failed) < len(embedded.items):
        vectors[[i for i in range(len(embedded.items)) if i not in failed]] = matrix(embedded.rows())
    return vectors


def cosines(images: Floats, texts: Floats) -> Floats:
    """Unit vectors [n, dim] and [m, dim] -> [n, m]; equal texts have equal columns.

    The matrix product may round two equal columns differently, and equal labels would then be ranked by
    that noise: so each distinct text is multiplied once.
    """
    first_of: dict[bytes, int] = {}
    firsts = [first_of.setdefault(text.tobytes(), index) for index, text in enumerate(texts)]
    distinct, place_of = np.unique(firsts, return_inverse=True)
    return scoring.cosines(images, texts[distinct])[:, place_of]
