"""Classify and Score: the numbers that a direct computation gives, ranked and cut as asked."""

import numpy as np
import pytest
from siglip.v1 import types_pb2, zero_shot_pb2

from broker import RowError
from siglip_model.image_processing import ImageLimits, decode
from tests.gateway.conftest import Served
from tests.gateway.rig import FakeWorker, picture, refused
from tests.support.slow_model import vector_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGES = [picture(seed) for seed in (11, 12, 13)]
LABELS = ["red square", "blue circle", "green star", "café", "犬"]


def text_vectors(service: Served, texts: list[str]) -> np.ndarray:
    model = service.served
    ids = model.tokenizer.encode_batch(texts, model.text_length)[0]
    return np.stack([vector_of(row.tobytes(), model.embedding_dim)[0] for row in ids]).astype(np.float64)


def image_vectors(service: Served, images: list[bytes]) -> np.ndarray:
    model = service.served
    size = (model.image_size, model.image_size)
    rows = [decode(image, ImageLimits(), size, model.resample).tobytes() for image in images]
    return np.stack([vector_of(row, model.embedding_dim)[0] for row in rows]).astype(np.float64)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def cosines_of(service: Served, labels: list[str], templates: list[str]) -> np.ndarray:
    """[images, labels] by float64: mean over templates, made a unit vector again."""
    means = np.stack(
        [text_vectors(service, [t.replace("{}", label) for t in templates]).mean(0) for label in labels]
    )
    return image_vectors(service, IMAGES) @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T


def columns(result: zero_shot_pb2.ClassificationResult, count: int) -> dict[str, np.ndarray]:
    """The scores of one image back in the order of the labels."""
    found = {name: np.full(count, np.nan) for name in ("probability", "logit", "cosine")}
    for score in result.scores.scores:
        for name, values in found.items():
            values[score.label_index] = getattr(score, name)
    return found


@pytest.mark.parametrize("activation", ["UNSPECIFIED", "SIGMOID", "SOFTMAX"])
@pytest.mark.parametrize(
    "templates", [[], ["{}"], ["a photo of {}.", "a drawing of a {}", "{ braces } around {}"]]
)
async def test_classify_equals_a_direct_computation(
    service: Served, templates: list[str], activation: str
) -> None:
    request = zero_shot_pb2.ClassifyRequest(
        images=IMAGES, labels=LABELS, templates=templates, activation=f"ACTIVATION_{activation}"
    )
    reply = await service.zero_shot.Classify(request)
    cosines = cosines_of(service, LABELS, templates or ["This is a photo of {}."])
    logits = cosines * reply.logit_scale + reply.logit_bias
    truth = softmax(logits) if activation == "SOFTMAX" else sigmoid(logits)
    assert reply.logit_scale == pytest.approx(np.exp(4.7), rel=1e-6)
    assert reply.logit_bias == pytest.approx(-12.9, rel=1e-6)
    for row, result in enumerate(reply.results):
        found = columns(result, len(LABELS))
        np.testing.assert_allclose(found["cosine"], cosines[row], atol=1e-6)
        np.testing.assert_allclose(found["logit"], logits[row], atol=1e-4)
        np.testing.assert_allclose(found["probability"], truth[row], rtol=2e-4)
        order = [score.label_index for score in result.scores.scores]
        assert order == list(np.argsort(-truth[row], kind="stable"))
        assert [score.label for score in result.scores.scores] == [LABELS[index] for index in order]


async def test_timing_covers_both_sides_and_the_scoring(service: Served) -> None:
    reply = await service.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=LABELS))
    timing = reply.timing
    assert timing.compute_us == 1234
    assert min(timing.decode_us, timing.score_us) > 0
    assert timing.total_us >= timing.decode_us + timing.score_us
    assert reply.model.fingerprint == service.served.fingerprint


async def test_top_k_keeps_the_highest(service: Served) -> None:
    full = await service.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=LABELS))
    cut = await service.zero_shot.Classify(
        zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=LABELS, top_k=2)
    )
    for whole, part in zip(full.results, cut.results, strict=True):
        assert list(part.scores.scores) == list(whole.scores.scores)[:2]


async def test_threshold_is_on_probability_and_inclusive(service: Served) -> None:
    ask = zero_shot_pb2.ClassifyRequest(
        images=IMAGES[:1], labels=LABELS, activation=zero_shot_pb2.ACTIVATION_SOFTMAX
    )
    scores = list((await service.zero_shot.Classify(ask)).results[0].scores.scores)
    ask.threshold = scores[2].probability
    kept = list((await service.zero_shot.Classify(ask)).results[0].scores.scores)
    # The probabilities are those over all five labels, although only three are returned.
    assert kept == scores[:3]


async def test_duplicate_labels_are_kept_and_tie_by_index(service: Served, text_worker: FakeWorker) -> None:
    labels = ["dog", "cat", "dog", "cat", "dog"]
    reply = await service.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=labels))
    for result in reply.results:
        scores = result.scores.scores
        assert sorted(score.label_index for score in scores) == [0, 1, 2, 3, 4]
        assert [labels[score.label_index] for score in scores] == [score.label for score in scores]
        ranks = [(-score.probability, score.label_index) for score in scores]
        assert ranks == sorted(ranks)
        assert len({score.probability for score in scores if score.label == "dog"}) == 1
    assert len(text_worker.rows) == 2


async def test_a_bad_image_is_that_results_error(service: Served) -> None:
    images = [b"no picture", *IMAGES]
    reply = await service.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(images=images, labels=LABELS))
    assert reply.results[0].error.field == "images[0]"
    assert [len(result.scores.scores) for result in reply.results[1:]] == [5, 5, 5]


async def test_only_bad_images_are_answered_too(service: Served) -> None:
    reply = await service.zero_shot.Classify(
        zero_shot_pb2.ClassifyRequest(images=[b"x", b""], labels=["cat"])
    )
    assert [result.error.reason for result in reply.results] == ["IMAGE_UNREADABLE", "IMAGE_EMPTY"]


@pytest.mark.parametrize("retryable", [False, True])
async def test_a_label_that_cannot_be_embedded_fails_the_call(
    service: Served, text_worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, retryable: bool
) -> None:
    monkeypatch.setattr(text_worker, "failure", RowError("OUT_OF_MEMORY", "犬" * 9000, retryable))
    model = service.served
    prompt = "a drawing of blue circle"
    text_worker.failing.add(model.tokenizer.encode_batch([prompt], model.text_length)[0].tobytes())
    templates = ["{}", "a drawing of {}"]
    request = zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=LABELS, templates=templates)
    error = await refused(service.zero_shot.Classify(request))
    assert (error.code.name, error.reason) == ("UNAVAILABLE" if retryable else "INTERNAL", "OUT_OF_MEMORY")
    assert ("RetryInfo" in error.details) == retryable
    assert "labels[1]" in error.message
    assert error.trailer_bytes < 8192


async def test_score_equals_a_direct_computation(service: Served) -> None:
    reply = await service.zero_shot.Score(zero_shot_pb2.ScoreRequest(images=IMAGES, texts=LABELS))
    logits = image_vectors(service, IMAGES) @ text_vectors(service, LABELS).T
    logits = logits * reply.logit_scale + reply.logit_bias
    np.testing.assert_allclose(array(reply.logits_per_image), logits, atol=1e-4)
    np.testing.assert_allclose(array(reply.probabilities), sigmoid(logits), rtol=2e-4)
    assert not reply.errors


async def test_score_marks_failed_rows_and_columns(service: Served) -> None:
    too_long = "x" * 70_000
    good = await service.zero_shot.Score(
        zero_shot_pb2.ScoreRequest(images=[IMAGES[0], IMAGES[1]], texts=["cat", "dog"])
    )
    reply = await service.zero_shot.Score(
        zero_shot_pb2.ScoreRequest(images=[IMAGES[0], b"x", IMAGES[1]], texts=["cat", too_long, "dog"])
    )
    assert [(error.field, error.index) for error in reply.errors] == [("images[1]", 1), ("texts[1]", 1)]
    for got, whole in (
        (array(reply.logits_per_image), array(good.logits_per_image)),
        (array(reply.probabilities), array(good.probabilities)),
    ):
        assert np.isnan(got[1]).all() and np.isnan(got[:, 1]).all()
        np.testing.assert_allclose(got[np.ix_([0, 2], [0, 2])], whole, atol=1e-5)


def array(matrix: types_pb2.Matrix) -> np.ndarray:
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.cols)
