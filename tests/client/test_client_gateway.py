"""Both clients against a real gateway process and a real queue; only the models are stand-ins."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from siglip.v1 import embedding_pb2
from siglip.v1.embedding_pb2_grpc import EmbeddingServiceStub

from siglip_client import (
    AsyncClient,
    Embeddings,
    FieldViolation,
    InvalidRequest,
    ItemErrors,
    MessageTooLarge,
    NotFound,
)
from siglip_client.channel import Access
from tests.client.stand_in import Connect
from tests.gateway.rig import picture


@pytest.fixture
def address(gateway_address: str) -> str:
    return gateway_address


def test_long_lists_give_what_single_items_give(client: Any) -> None:
    texts = [f"text {i}" for i in range(1100)]
    images = [picture(i) for i in range(70)]
    embedded: list[Embeddings] = [client.embed_texts(texts), client.embed_images(images)]
    for result, count in zip(embedded, (1100, 70), strict=True):
        assert result.vectors.shape == (count, 32) and result.timing.total_us > 0
        np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(client.embed_texts([texts[1000]]).vectors[0], embedded[0].vectors[1000])
    np.testing.assert_array_equal(client.embed_images([images[66]]).vectors[0], embedded[1].vectors[66])


async def test_thousands_of_calls_at_once_wait_for_their_turn(address: str) -> None:
    async with AsyncClient(address, retries=0) as client:
        calls = [client.tokenize([f"text {number}"]) for number in range(1500)]
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert not [each for each in found if isinstance(each, BaseException)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 5e-4), ("bf16", 4e-3), ("i8", 5e-3)])
def test_smaller_dtypes_come_close(client: Any, dtype: str, tolerance: float) -> None:
    exact = client.embed_texts(["a", "b"]).vectors
    np.testing.assert_allclose(client.embed_texts(["a", "b"], dtype=dtype).vectors, exact, atol=tolerance)


def test_classify_and_score_agree(client: Any) -> None:
    images, labels = [picture(i) for i in range(3)], ["cat", "dog", "bird"]
    found = client.classify(images, labels, templates=["{}"])
    scores = client.score(images, labels)
    for image in found:
        for label in image:
            expected = found.logit_scale * label.cosine + found.logit_bias
            assert label.logit == pytest.approx(expected, rel=1e-4)
            assert scores.logits[image.index, label.index] == pytest.approx(label.logit, rel=1e-4)
            assert scores.probabilities[image.index, label.index] == pytest.approx(
                label.probability, rel=1e-4
            )
    [competing] = client.classify(images[:1], labels, activation="softmax")
    assert sum(label.probability for label in competing) == pytest.approx(1, abs=1e-5)


def test_long_labels_are_split_as_the_gateway_wants_them(client: Any) -> None:
    labels = [f"{i} ".ljust(400, "x") for i in range(1000)]
    result = client.classify([picture(i) for i in range(16)], labels, templates=["{}"])
    assert [len(image) for image in result] == [1000] * 16


def test_a_bad_image_far_down_the_list(client: Any) -> None:
    images = [picture(i) for i in range(66)]
    images[65] = b"not a picture"
    with pytest.raises(ItemErrors, match=r"1 of 66 items failed: images\[65\]") as raised:
        client.embed_images(images)
    assert raised.value.reason == "IMAGE_UNREADABLE"


def test_what_the_client_refuses_the_gateway_refuses_alike(client: Any, address: str) -> None:
    """So an item too large to be sent fails like one that was."""
    image, text = bytes(100_001), "x" * 1001
    of_client = [
        client.embed_images([image], on_error="return").errors[0],
        client.embed_texts([text], on_error="return").errors[0],
    ]
    with grpc.insecure_channel(address) as channel:
        stub = EmbeddingServiceStub(channel)
        replies = [
            stub.EmbedImages(embedding_pb2.EmbedImagesRequest(images=[image])),
            stub.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=[text])),
        ]
    of_gateway = [reply.results[0].error for reply in replies]
    for ours, theirs in zip(of_client, of_gateway, strict=True):
        assert (ours.reason, ours.field, ours.code.value[0]) == (theirs.reason, theirs.field, theirs.code)


def test_refusals_name_field_and_limit(connect: Connect) -> None:
    client = connect()
    with pytest.raises(InvalidRequest) as raised:
        client.classify([picture(0)], ["a"] * 10_000)
    [violation] = raised.value.violations
    assert isinstance(violation, FieldViolation) and violation.field == "labels"
    assert "10000" in violation.description and "1024" in violation.description
    with pytest.raises(InvalidRequest, match="FIELD_EMPTY"):
        client.embed_texts([])
    with pytest.raises(NotFound, match="'other' is not served here; this server serves 'tiny'"):
        connect(model="other").embed_texts(["a"])
    with pytest.raises(MessageTooLarge):
        client.classify([picture(0)], ["a" * 40_000_000])
    assert len(client.embed_texts(["alive"])) == 1


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        ("dns:///localhost:1", True),
        ("dns:127.0.0.1:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv6:[::1]:1", True),
        ("127.evil.example.com:1", False),
        ("127.0.0.1.evil.example.com:1", False),
        ("dns:///127.evil.example.com:1", False),
        ("dns://192.0.2.1/localhost:1", False),  # another machine says who that is
        ("ipv4:127.0.0.1:1,192.0.2.1:1", False),
        ("localhost.example.com:1", False),
        ("unix.example.com:1", False),
        ("gateway:1", False),
    ],
)
def test_a_token_goes_in_clear_only_to_this_machine(address: str, local: bool) -> None:
    access = Access(token="secret")
    if local:
        assert access.credentials(address) is None
    else:
        with pytest.raises(ValueError, match="would travel in clear"):
            access.credentials(address)


def test_tokenize_and_get_model(client: Any) -> None:
    tokens = client.tokenize(["a cat", "word " * 200])
    assert tokens.ids.shape == (2, 64) and tokens.truncated.tolist() == [False, True]
    model = client.get_model()
    assert (model.name, model.embedding_dim, model.text_length) == ("tiny", 32, 64)
    assert model.vision_tower.devices == ("cpu",)
