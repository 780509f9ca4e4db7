"""What is sent again, when, and what an exhausted call raises."""

import itertools
import time
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from siglip_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidRequest,
    MessageTooLarge,
    NotFound,
    Overloaded,
    SiglipError,
    Unavailable,
)
from tests.client.stand_in import Connect, Failure, StandIn

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE)


def overloaded(pushback_ms: str | None) -> Failure:
    trailers = () if pushback_ms is None else (("grpc-retry-pushback-ms", pushback_ms),)
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", trailers)


def rich(code: grpc.StatusCode, *details: Message) -> tuple[tuple[str, str | bytes], ...]:
    packed = []
    for detail in details:
        packed.append(Packed())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code.value[0], details=packed)
    return (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "from-server"))


def test_unavailable_then_answered(client: Any, service: StandIn) -> None:
    service.failures.append(UNAVAILABLE)
    assert len(client.embed_texts(["a"])) == 1
    assert len(service.calls("EmbedTexts")) == 2


def test_requests_larger_than_grpcs_retry_buffer_are_sent_again_too(client: Any, service: StandIn) -> None:
    service.failures.append(UNAVAILABLE)
    assert len(client.embed_images([bytes(1_900_000)])) == 1
    assert len(service.calls("EmbedImages")) == 2


def test_unavailable_for_good(connect: Connect, service: StandIn) -> None:
    service.failures.extend([UNAVAILABLE] * 9)
    with pytest.raises(Unavailable, match="told to fail"):
        connect(retries=1).embed_texts(["a"])
    assert len(service.calls("EmbedTexts")) == 2


def test_overloaded_is_sent_again_after_the_servers_pushback(client: Any, service: StandIn) -> None:
    client.get_model()
    service.failures.extend([overloaded("80"), overloaded("80")])
    start = time.monotonic()
    assert len(client.embed_texts(["a"])) == 1
    assert time.monotonic() - start >= 0.16
    assert len(service.calls("EmbedTexts")) == 3


@pytest.mark.parametrize("pushback_ms", [None, "-1", "soon"])
def test_overloaded_is_not_sent_again_without_the_servers_consent(
    client: Any, service: StandIn, pushback_ms: str | None
) -> None:
    service.failures.append(overloaded(pushback_ms))
    with pytest.raises(Overloaded) as raised:
        client.embed_texts(["a"])
    assert len(service.calls("EmbedTexts")) == 1
    assert raised.value.retry_after_s is None


def test_a_pushback_beyond_the_deadline_is_not_waited_for(client: Any, service: StandIn) -> None:
    client.get_model()
    service.failures.append(overloaded("20000"))
    start = time.monotonic()
    with pytest.raises(Overloaded) as raised:
        client.embed_texts(["a"], timeout_s=5)
    assert time.monotonic() - start < 4
    assert raised.value.retry_after_s == 20


def test_retries_can_be_turned_off(connect: Connect, service: StandIn) -> None:
    client = connect(retries=0)
    for failure in (UNAVAILABLE, overloaded("1")):
        service.failures.append(failure)
        with pytest.raises(SiglipError):
            client.embed_texts(["a"])
    assert len(service.calls("EmbedTexts")) == 2
    with pytest.raises(ValueError, match="retries must be between 0 and 4, not 5"):
        connect(retries=5)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.FAILED_PRECONDITION, InternalError),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.UNIMPLEMENTED, NotFound),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
    ],
)
def test_other_codes_are_raised_at_once(
    client: Any, service: StandIn, code: grpc.StatusCode, error: type[SiglipError]
) -> None:
    service.failures.append(Failure(code, "told to fail"))
    with pytest.raises(error) as raised:
        client.embed_texts(["a"])
    assert type(raised.value) is error and raised.value.code is code
    assert len(service.calls("EmbedTexts")) == 1


def test_an_error_says_which_field_why_and_which_request(client: Any, service: StandIn) -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT
    trailers = rich(
        code,
        error_details_pb2.ErrorInfo(reason="LIMIT_EXCEEDED", domain="siglip.v1"),
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="labels", description="too many")
            ]
        ),
    )
    service.failures.append(Failure(code, "labels: too many", trailers))
    with pytest.raises(InvalidRequest) as raised:
        client.classify([b"x"], ["a"])
    error = raised.value
    assert (error.reason, error.request_id) == ("LIMIT_EXCEEDED", "from-server")
    assert error.violations == (FieldViolation("labels", "too many"),)
    assert str(error) == "INVALID_ARGUMENT: labels: too many (LIMIT_EXCEEDED) [request from-server]"


def test_retry_info_is_told_even_without_pushback(client: Any, service: StandIn) -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    service.failures.append(Failure(code, "full", rich(code, retry)))
    with pytest.raises(Overloaded) as raised:
        client.embed_texts(["a"])
    assert raised.value.retry_after_s == 1.5


def test_details_that_cannot_be_read_leave_code_and_message(client: Any, service: StandIn) -> None:
    garbage = (("grpc-status-details-bin", b"\xff\xff"),)
    service.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "no", garbage))
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT: no"):
        client.embed_texts(["a"])


def test_every_call_has_a_deadline_and_an_id(client: Any, service: StandIn) -> None:
    client.embed_texts(["a"])
    client.embed_texts(["a"], timeout_s=3)
    assert 25 < service.calls("EmbedTexts")[0].time_left_s < 31
    assert 2 < service.calls("EmbedTexts")[1].time_left_s < 4
    ids = {seen.metadata["x-request-id"] for seen in service.seen}
    assert len(ids) == 3


def test_no_answer_in_time(client: Any, service: StandIn) -> None:
    client.get_model()
    service.may_answer.clear()
    try:
        with pytest.raises(DeadlineExceeded):
            client.embed_texts(["a"], timeout_s=0.2)
    finally:
        service.may_answer.set()


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_a_call_without_time_is_not_sent(client: Any, service: StandIn, timeout_s: float) -> None:
    with pytest.raises(DeadlineExceeded, match="no time is left"):
        client.get_model(timeout_s=timeout_s)
    assert service.seen == []


def test_a_message_too_large_for_grpc_is_not_called_overload(client: Any, service: StandIn) -> None:
    client.get_model()
    with pytest.raises(MessageTooLarge, match="larger than max"):
        client.classify([b"x"], ["y" * 5_000_000])


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("127.0.0.1:9", "Connection refused"),
        ("unix:///nonexistent/siglip.sock", "No such file or directory"),
    ],
)
def test_nobody_at_the_address(address: str, cause: str) -> None:
    with Client(address, retries=0) as client, pytest.raises(Unavailable) as raised:
        client.get_model()
    assert str(raised.value).startswith(f"UNAVAILABLE: cannot connect to {address}: {cause} (")


async def test_an_answer_that_grpc_loses_at_the_deadline_is_a_passed_deadline(address: str) -> None:
    """grpc.aio then gives None for a reply, and no error."""

    async def lost(*_: object, **__: object) -> None:
        return None

    async with AsyncClient(address) as client:
        client._methods = itertools.cycle([{**next(client._methods), "EmbedTexts": lost}])  # type: ignore[dict-item]
        with pytest.raises(DeadlineExceeded, match="no answer in time"):
            await client.embed_texts(["a cat"])


def test_a_call_that_a_stopping_gateway_cancels_is_sent_again(connect: Connect, service: StandIn) -> None:
    """Nobody here cancelled it: it had arrived as the server stopped."""
    service.failures.append(Failure(grpc.StatusCode.CANCELLED))
    client = connect()
    assert len(client.embed_texts(["a"])) == 1
    service.failures.extend([Failure(grpc.StatusCode.CANCELLED)] * 9)
    with pytest.raises(InternalError, match="CANCELLED"):
        client.embed_texts(["a"])
