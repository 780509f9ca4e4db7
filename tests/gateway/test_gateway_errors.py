"""What a client is told when something is wrong with us, and what only the log is told."""

import logging
from typing import Any

import grpc
import pytest
from siglip.v1 import embedding_pb2

from tests.gateway.conftest import Served
from tests.gateway.rig import Refused, pairs, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

REQUEST = embedding_pb2.EmbedTextsRequest(texts=["a private sentence"])


async def broken(*_: Any) -> Any:
    raise KeyError("secret: internal text at /etc/passwd")


async def test_an_unexpected_exception_is_internal_and_says_nothing(
    service: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service.gateway.parts.embedder, "texts", broken)
    error = await refused(service.embedding.EmbedTexts(REQUEST, metadata=[("x-request-id", "call-17")]))
    assert (error.code.name, error.reason) == ("INTERNAL", "INTERNAL")
    told = error.message + repr(error.trailers)
    for leak in ("secret", "passwd", "KeyError", "Traceback", "broken", "test_gateway"):
        assert leak not in told
    assert error.details["RequestInfo"].request_id == "call-17"
    assert error.trailers["x-request-id"] == "call-17"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "request_id=call-17" in record.message
    assert record.exc_info and "secret" in str(record.exc_info[1])
    monkeypatch.undo()
    assert (await service.embedding.EmbedTexts(REQUEST)).results[0].HasField("embedding")


async def test_a_reply_that_cannot_be_built_is_internal_too(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong_type(*_: Any) -> Any:
        return "no Embedded"

    monkeypatch.setattr(service.gateway.parts.embedder, "texts", wrong_type)
    error = await refused(service.embedding.EmbedTexts(REQUEST))
    assert error.code.name == "INTERNAL"


async def test_a_body_that_is_no_message_is_an_invalid_argument(service: Served) -> None:
    raw = service.channel.unary_unary("/siglip.v1.EmbeddingService/EmbedTexts")
    error = await refused(raw(b"\xff\xff\xff"))
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "REQUEST_UNREADABLE")


async def test_an_unknown_method_is_unimplemented(service: Served) -> None:
    raw = service.channel.unary_unary("/siglip.v1.EmbeddingService/EmbedSmells")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await raw(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_given_request_id_comes_back_and_is_logged(
    service: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call = service.embedding.EmbedTexts(REQUEST, metadata=[("x-request-id", "abc-1:2/3")])
    await call
    assert pairs(await call.trailing_metadata())["x-request-id"] == "abc-1:2/3"
    (line,) = [record.message for record in caplog.records if "abc-1:2/3" in record.message]
    assert "method=siglip.v1.EmbeddingService/EmbedTexts" in line
    assert "code=OK" in line and "items=1" in line
    assert "private" not in caplog.text


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, 'quote"', "new%0aline"])
async def test_other_request_ids_are_replaced(service: Served, given: str | None) -> None:
    metadata = [] if given is None else [("x-request-id", given)]
    call = service.embedding.EmbedTexts(REQUEST, metadata=metadata)
    await call
    made = pairs(await call.trailing_metadata())["x-request-id"]
    assert made != given and len(made) == 32 and made.isalnum()


async def test_user_text_is_not_logged_with_a_refusal(
    service: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = embedding_pb2.EmbedTextsRequest(model="a private name", texts=["a private sentence"])
    error: Refused = await refused(service.embedding.EmbedTexts(request))
    assert "private name" in error.message
    assert "private" not in caplog.text
    assert "reason=MODEL_UNKNOWN" in caplog.text
