"""What a newer service sends that this client does not know; and what no other method sends."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from siglip.v1 import embedding_pb2, types_pb2

from siglip_client import InvalidRequest, ItemErrors, TextItem
from tests.client import stand_in, stream_stand_in
from tests.client.stand_in import Connect, Failure, StandIn, unit_vector
from tests.client.stream_stand_in import Exchange, StreamStandIn, streaming

NEW = "of a newer dtype"


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text NEW has a vector of an unknown dtype."""
    old, unknown = stand_in._encode, unit_vector(NEW)

    def encode(vector: Any, dtype: Any) -> types_pb2.Vector:
        found = old(vector, dtype)
        if np.array_equal(vector, unknown):
            found.dtype = 99  # type: ignore[assignment]
        return found

    monkeypatch.setattr(stand_in, "_encode", encode)


@pytest.mark.usefixtures("newer")
def test_a_vector_of_an_unknown_dtype_is_an_error_of_its_item(client: Any) -> None:
    with pytest.raises(ItemErrors) as raised:
        client.embed_texts(["a", NEW, "b"])
    [error] = raised.value.errors
    assert (error.index, error.field, error.reason) == (1, "texts[1]", "DTYPE_UNKNOWN")
    assert (error.code, error.retryable) == (grpc.StatusCode.UNIMPLEMENTED, False)
    assert "dtype 99" in error.message
    found = raised.value.result.vectors
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[[0, 2]], [unit_vector("a"), unit_vector("b")])


def test_so_it_is_in_a_stream(connect: Connect) -> None:
    def script(exchange: Exchange) -> Iterator[stream_stand_in.Response]:
        yield exchange.open()
        for item in exchange.items():
            answer = exchange.answer(item)
            if item.text == NEW:
                answer.results[0].embedding.dtype = 99  # type: ignore[assignment]
            yield answer

    service = StreamStandIn()
    service.scripts.append(script)
    with streaming(service) as address:
        client = connect(address=address)
        items = [TextItem(text, text) for text in ("a", NEW, "b")]
        found = {result.key: result for result in client.embed_stream(items)}
    assert found[NEW].vector is None
    assert (found[NEW].error.reason, found[NEW].error.index) == ("DTYPE_UNKNOWN", 1)
    assert np.array_equal([found[text].vector for text in "ab"], [unit_vector("a"), unit_vector("b")])


def test_an_error_says_whose_it_is_and_with_what(client: Any, service: StandIn) -> None:
    status = status_pb2.Status(code=3, message="no")
    status.details.add(type_url="type.googleapis.com/siglip.v9.Unheard", value=b"\x08\x01")
    info = error_details_pb2.ErrorInfo(reason="NO", domain="siglip.v1", metadata={"limit": "5"})
    status.details.add().Pack(info)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    service.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "no", details))
    with pytest.raises(InvalidRequest) as raised:
        client.tokenize(["a"])
    error = raised.value
    assert (error.reason, error.domain, error.metadata) == ("NO", "siglip.v1", {"limit": "5"})


def test_a_request_is_sent_as_it_is(client: Any, service: StandIn) -> None:
    """No list is split, nothing is asked for before, and what fails is retried as ever."""
    pushback = (("grpc-retry-pushback-ms", "1"),)
    service.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=pushback))
    texts = ["a"] * (service.limits.max_texts + 1)
    reply = client.call("EmbedTexts", embedding_pb2.EmbedTextsRequest(texts=texts), timeout_s=5)
    assert len(reply.results) == len(texts)
    assert [seen.method for seen in service.seen] == ["EmbedTexts"] * 2
    assert all(list(seen.request.texts) == texts for seen in service.seen)
    assert all(seen.time_left_s <= 5.01 for seen in service.seen), "but for rounding by gRPC"


@pytest.mark.parametrize("name", ["EmbedTxts", "EmbedStream"])
def test_what_is_no_such_call_is_refused(client: Any, service: StandIn, name: str) -> None:
    with pytest.raises(ValueError, match=f"one of EmbedTexts, EmbedImages, .*, not '{name}'"):
        client.call(name, embedding_pb2.EmbedTextsRequest(texts=["a"]))
    assert not service.seen
