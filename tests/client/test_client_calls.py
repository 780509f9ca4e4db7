"""Every call over real gRPC, the same for the blocking and the asyncio client."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from siglip_client import InternalError, InvalidRequest, ItemErrors, Timing, Unavailable
from tests.client.stand_in import (
    BAD,
    DIM,
    LOGIT_BIAS,
    LOGIT_SCALE,
    Connect,
    Failure,
    StandIn,
    serving,
    sigmoid,
    unit_vector,
)
from tests.support.valkey import free_port

TEXTS = [f"text number {i}" for i in range(11)]
IMAGES = [f"image {i}".encode() for i in range(8)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 0), ("f16", 5e-4), ("bf16", 8e-3), ("i8", 5e-3)])
def test_embeddings_are_float32_whatever_travels(client: Any, dtype: str, tolerance: float) -> None:
    result = client.embed_texts(["a cat", "a dog"], dtype=dtype)
    expected = np.stack([unit_vector("a cat"), unit_vector("a dog")])
    assert result.vectors.dtype == np.float32
    np.testing.assert_allclose(result.vectors, expected, rtol=0, atol=tolerance)
    assert np.asarray(result) is result.vectors and len(result) == 2
    assert result.model.fingerprint == "f00d"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see the token in clear."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert len(connect(token="secret", timeout_s=5, retries=0).embed_texts(["a"])) == 1


def test_normalize_false_keeps_the_models_length(client: Any) -> None:
    vectors = client.embed_images([b"x"], normalize=False).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [3], rtol=1e-6)


def test_long_lists_are_sent_in_calls_that_fit_and_come_back_in_order(client: Any, service: StandIn) -> None:
    vectors = client.embed_texts(TEXTS).vectors
    np.testing.assert_array_equal(vectors, [unit_vector(text) for text in TEXTS])
    assert sorted(len(seen.request.texts) for seen in service.calls("EmbedTexts")) == [3, 4, 4]


def test_limits_are_asked_for_once(client: Any, service: StandIn) -> None:
    for _ in range(3):
        client.embed_texts(["a"])
    assert len(service.calls("GetModel")) == 1


def test_limits_are_asked_for_again_after_a_refusal(client: Any, service: StandIn) -> None:
    client.embed_texts(["a"])
    service.limits.max_texts = 2
    service.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT))
    with pytest.raises(InvalidRequest):
        client.embed_texts(["a"] * 4)
    client.embed_texts(["a"] * 4)
    assert [len(seen.request.texts) for seen in service.calls("EmbedTexts")] == [1, 4, 2, 2]


def test_images_are_also_split_by_bytes(client: Any, service: StandIn) -> None:
    images = [bytes([i]) * 1_500_000 for i in range(3)]
    vectors = client.embed_images(images).vectors
    np.testing.assert_array_equal(vectors, [unit_vector(image) for image in images])
    assert sorted(len(seen.request.images) for seen in service.calls("EmbedImages")) == [1, 2]


def test_errors_of_long_lists_have_the_positions_of_the_callers_list(client: Any) -> None:
    images = [*IMAGES[:4], BAD, *IMAGES[4:], BAD]
    with pytest.raises(ItemErrors) as raised:
        client.embed_images(images)
    errors = raised.value.errors
    assert [(error.index, error.field) for error in errors] == [(4, "images[4]"), (9, "images[9]")]
    assert errors[1].code is grpc.StatusCode.INVALID_ARGUMENT and errors[1].reason == "ITEM_BAD"
    assert "images[9] cannot be read" in str(errors[1])
    assert str(raised.value).startswith("2 of 10 items failed: images[4]")
    assert len(raised.value.result) == 10


def test_on_error_return_leaves_nan_and_the_neighbours(client: Any) -> None:
    result = client.embed_texts(["a", "bad", "c"], on_error="return")
    assert np.isnan(result.vectors).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_array_equal(result.vectors[2], unit_vector("c"))
    assert [error.index for error in result.errors] == [1]


def test_an_item_too_large_to_be_sent_fails_alone(client: Any, service: StandIn) -> None:
    result = client.embed_images([b"x", bytes(5_000_000), b"z"], on_error="return")
    [error] = result.errors
    assert (error.index, error.reason, error.field) == (1, "IMAGE_TOO_LARGE", "images[1]")
    assert "5000000 bytes given, at most 2000000 allowed (max_image_bytes)" in error.message
    np.testing.assert_array_equal(result.vectors[2], unit_vector(b"z"))
    texts = client.embed_texts(["x" * 101], on_error="return")
    assert texts.errors[0].reason == "TEXT_TOO_LONG" and texts.vectors.shape == (1, DIM)
    assert not service.calls("EmbedTexts")


def test_empty_lists_are_the_services_to_judge(client: Any, service: StandIn) -> None:
    client.embed_texts([])
    client.embed_images([])
    assert [len(seen.request.texts) for seen in service.calls("EmbedTexts")] == [0]
    assert len(service.calls("EmbedImages")) == 1


def test_classify_gives_labels_by_probability(client: Any, service: StandIn) -> None:
    labels = ["cat", "dog", "cat", "bird"]
    result = client.classify(IMAGES, labels, templates=["{}!"], activation="softmax", top_k=2, threshold=0.25)
    assert len(result) == len(IMAGES) and [image.index for image in result] == list(range(8))
    for image, data in zip(result, IMAGES, strict=True):
        expected = {
            i: LOGIT_SCALE * float(unit_vector(data) @ unit_vector(labels[i])) + LOGIT_BIAS for i in range(4)
        }
        best = sorted(range(4), key=lambda i: (-expected[i], i))[:2]
        assert [score.index for score in image] == best
        assert image[0].label == labels[best[0]]
        assert image[0].logit == pytest.approx(expected[best[0]], rel=1e-5)
        assert image[0].probability == pytest.approx(1 / (1 + math.exp(-expected[best[0]])), rel=1e-5)
    assert (result.logit_scale, result.logit_bias) == (LOGIT_SCALE, LOGIT_BIAS)
    request = service.calls("Classify")[0].request
    assert list(request.templates) == ["{}!"] and request.activation == 2
    assert request.top_k == 2 and request.threshold == 0.25


def test_classify_splits_by_scores_and_by_the_size_of_the_reply(client: Any, service: StandIn) -> None:
    client.classify(IMAGES[:4], [f"label {i}" for i in range(10)])
    assert [len(seen.request.images) for seen in service.calls("Classify")] == [2, 2]
    service.limits.max_reply_bytes = 500
    client.get_model()
    client.classify(IMAGES[:4], ["x" * 400, "y"], top_k=1)
    assert [len(seen.request.images) for seen in service.calls("Classify")][2:] == [1, 1, 1, 1]


def test_a_bad_image_has_no_labels_and_its_neighbours_have(client: Any) -> None:
    result = client.classify([b"a", BAD, b"c", bytes(5_000_000)], ["x", "y"], on_error="return")
    assert [len(image) for image in result] == [2, 0, 2, 0]
    assert [error.index for error in result.errors] == [1, 3]
    assert result[1].error == result.errors[0]


def test_score_is_a_matrix_with_nan_where_items_failed(client: Any, service: StandIn) -> None:
    images, texts = [b"a", b"b", BAD, b"d", BAD], ["x", "bad", "z"]
    result = client.score(images, texts, on_error="return")
    assert result.logits.shape == result.probabilities.shape == (5, 3) and len(result) == 5
    assert np.isnan(result.logits).tolist() == [
        [image == BAD or text == "bad" for text in texts] for image in images
    ]
    expected = LOGIT_SCALE * unit_vector(b"d") @ unit_vector("z") + LOGIT_BIAS
    assert result.logits[3, 2] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(result.probabilities[3, 2], sigmoid(result.logits[3, 2]), rtol=1e-6)
    assert len(service.calls("Score")) == 2
    assert [error.field for error in result.errors] == ["images[2]", "images[4]", "texts[1]"]


def test_tokenize(client: Any) -> None:
    tokens = client.tokenize(["one two", "a b c d e", "f", "g", "h", "i"])
    assert tokens.ids.dtype == np.int32 and tokens.ids[:2].tolist() == [[3, 3, 1, 1], [1, 1, 1, 1]]
    assert tokens.truncated.tolist() == [False, True, False, False, False, False]
    assert tokens.pieces[0] == ("3", "3", "1", "1") and len(tokens) == 6


def test_long_lists_of_texts_are_tokenized_in_order(client: Any, service: StandIn) -> None:
    ids = client.tokenize(["x" * (i + 1) for i in range(18)]).ids
    assert ids[:, 0].tolist() == list(range(1, 19))
    assert len(service.calls("Tokenize")) == 5


def test_get_model_describes_model_limits_and_workers(client: Any) -> None:
    model = client.get_model()
    assert (model.name, model.embedding_dim, model.logit_scale) == ("stand-in", DIM, LOGIT_SCALE)
    assert model.limits.max_texts == 4 and model.templates == ("This is a photo of {}.",)
    assert model.text_tower.live_workers == 1 and not model.vision_tower.served


def test_the_models_name_travels_with_every_call(connect: Connect, service: StandIn) -> None:
    client = connect(model="mine")
    client.embed_texts(["a"])
    client.embed_images([b"a"])
    client.classify([b"a"], ["x"])
    client.score([b"a"], ["x"])
    client.tokenize(["a"])
    assert [seen.request.model for seen in service.seen] == ["mine"] * 6


def test_timing_is_the_largest_over_the_calls(client: Any) -> None:
    timing = client.embed_texts(TEXTS[:6]).timing
    assert timing == Timing(compute_us=4)
    assert str(timing) == "decode 0.0 ms, queue 0.0 ms, compute 0.0 ms, score 0.0 ms, total 0.0 ms"


def test_vectors_of_two_models_are_never_mixed(client: Any, service: StandIn) -> None:
    service.fingerprints.extend(["old", "new", "new"])
    with pytest.raises(InternalError, match="model changed during the call"):
        client.embed_texts(TEXTS)


def test_files_arrays_and_pillow_images_can_be_mixed(client: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a file")
    vectors = client.embed_images([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), b"a file"]).vectors
    np.testing.assert_array_equal(vectors, [unit_vector(b"a file")] * 3)
    with pytest.raises(FileNotFoundError):
        client.embed_images([tmp_path / "missing.jpg"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("embed_texts", "a cat"), TypeError, "texts must be a list, not a single str"),
        (("embed_texts", [b"a cat"]), TypeError, r"texts\[0\] must be a str, not bytes"),
        (("embed_images", "cat.jpg"), TypeError, "images must be a list, not a single str"),
        (("classify", [b"x"], "cat"), TypeError, "labels must be a list"),
        (("classify", [3], ["cat"]), TypeError, "an image cannot be a int"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    client: Any, service: StandIn, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(client, arguments[0])(*arguments[1:])
    assert {seen.method for seen in service.seen} <= {"GetModel"}


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client: client.embed_texts(["a", "caf\udce9"]), "texts[1]"),
        (lambda client: client.classify([b"x"], ["\udce9"]), "labels[0]"),
        (lambda client: client.classify([b"x"], ["a"], templates=["{}", "\udce9{}"]), "templates[1]"),
        (lambda client: client.score([b"x"], ["\udce9"]), "texts[0]"),
        (lambda client: client.tokenize(["\ud800"]), "texts[0]"),
    ],
)
def test_texts_that_are_not_unicode_are_named(
    client: Any, service: StandIn, call: Callable[[Any], Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call(client)
    [violation] = refused.value.violations
    assert violation.field == field and str(refused.value).startswith(f"INVALID_ARGUMENT: {field}: ")
    assert refused.value.reason == "TEXT_NOT_UNICODE"
    str(refused.value).encode()
    assert {seen.method for seen in service.seen} <= {"GetModel"}


@pytest.mark.parametrize("timeout_s", [1e12, math.inf])
def test_a_very_long_time_is_not_over_at_once(connect: Connect, timeout_s: float) -> None:
    assert len(connect(timeout_s=timeout_s).embed_texts(["a"])) == 1
    assert len(connect().embed_texts(["a"], timeout_s=timeout_s)) == 1


@pytest.mark.parametrize("timeout_s", [math.nan, "3"])
def test_a_time_that_is_no_number_is_named(connect: Connect, timeout_s: Any) -> None:
    told = f"timeout_s must be a number of seconds, not {timeout_s!r}"
    with pytest.raises(ValueError, match=told):
        connect(timeout_s=timeout_s)
    with pytest.raises(ValueError, match=told):
        connect().embed_texts(["a"], timeout_s=timeout_s)
    with pytest.raises(ValueError, match=told):
        next(connect().embed_stream([], timeout_s=timeout_s))


def test_several_connections_are_used_in_turn(connect: Connect, service: StandIn) -> None:
    client = connect(connections=3)
    for _ in range(5):
        client.embed_texts(["a"])
    assert len({seen.peer for seen in service.seen}) == 3


def test_unix_sockets_and_with_blocks(tmp_path: Path, service: StandIn) -> None:
    from siglip_client import Client

    with serving(service) as address, Client(f"dns:///{address}") as client:
        assert client.get_model().name == "stand-in"
    with pytest.raises(Unavailable, match="the client is closed"):
        client.get_model()
