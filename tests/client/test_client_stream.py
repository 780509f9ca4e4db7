"""embed_stream of both clients, a gateway by script: one result for each item, whatever happens."""

import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from siglip_client import (
    Client,
    DeadlineExceeded,
    ImageItem,
    InternalError,
    InvalidRequest,
    Overloaded,
    PixelsItem,
    TextItem,
    TokensItem,
    Unavailable,
)
from siglip_client.stream import Stream
from tests.client.stand_in import TEXT_LENGTH, Connect, unit_vector
from tests.client.stream_stand_in import (
    SIZE,
    Exchange,
    Response,
    StreamStandIn,
    busy,
    dies_after,
    drains_after,
    falls_silent,
    honest,
    refuses,
    streaming,
)


@pytest.fixture
def service() -> StreamStandIn:
    return StreamStandIn()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while names := [t.name for t in threading.enumerate() if t.name.startswith("siglip-stream")]:
        assert time.monotonic() < deadline, names
        time.sleep(0.01)


def texts(count: int) -> list[TextItem]:
    return [TextItem(("key", i), f"text {i}") for i in range(count)]


def check(results: list[Any], items: list[TextItem], ordered: bool = False) -> None:
    keys = [result.key for result in results]
    assert len(set(keys)) == len(keys) and set(keys) == {item.key for item in items}
    if ordered:
        assert keys == [item.key for item in items]
    expected = {item.key: unit_vector(item.text) for item in items}
    for result in results:
        assert result.error is None
        np.testing.assert_array_equal(result.vector, expected[result.key])


def test_each_item_has_its_vector(client: Any, service: StreamStandIn) -> None:
    ids, pixels = np.arange(TEXT_LENGTH), np.arange(3 * SIZE * SIZE, dtype=np.uint8).reshape(3, SIZE, SIZE)
    items = [
        TextItem("a", "a"),
        ImageItem(1, b"image"),
        TokensItem(("x", 2), ids),
        PixelsItem(None, pixels),
    ]
    found = {result.key: result for result in client.embed_stream(items)}
    assert len(found) == 4
    for key, content in (
        ("a", "a"),
        (1, b"image"),
        (("x", 2), bytes(range(TEXT_LENGTH))),
        (None, pixels.tobytes()),
    ):
        np.testing.assert_array_equal(found[key].vector, unit_vector(content))
        assert found[key].vector.dtype == np.float32


def test_nothing_in_nothing_out(client: Any) -> None:
    assert list(client.embed_stream([])) == []


def test_equal_keys_are_the_callers_affair(client: Any) -> None:
    assert [result.key for result in client.embed_stream([TextItem("k", "a"), TextItem("k", "b")])] == [
        "k"
    ] * 2


def test_bad_items_are_errors_of_their_own(client: Any, tmp_path: Any) -> None:
    bad = [
        ImageItem("IMAGE_FILE_UNREADABLE", tmp_path / "absent.jpg"),
        ImageItem("IMAGE_FILE_UNREADABLE", tmp_path),
        ImageItem("IMAGE_UNUSABLE", 7),  # type: ignore[arg-type]
        ImageItem("IMAGE_UNUSABLE", np.zeros((2, 2), np.uint8)),
        ImageItem("IMAGE_TOO_LARGE", bytes(50_001)),
        ImageItem("ITEM_BAD", b"bad"),
        TextItem("TEXT_TOO_LONG", "x" * 101),
        TextItem("TEXT_NOT_UNICODE", "\udc80"),
        PixelsItem("PIXELS_UNUSABLE", np.zeros((3, 1, 1), np.uint8)),
        PixelsItem("PIXELS_UNUSABLE", np.zeros((3, SIZE, SIZE), np.float32)),  # type: ignore[arg-type]
        TokensItem("TOKEN_IDS_UNUSABLE", np.zeros(TEXT_LENGTH + 1, int)),
        TokensItem("TOKEN_IDS_UNUSABLE", np.zeros(TEXT_LENGTH)),  # type: ignore[arg-type]
        TokensItem("TOKEN_ID_UNKNOWN", np.full(TEXT_LENGTH, 2**40)),
    ]
    results = list(client.embed_stream([*bad, TextItem("good", "good")], ordered=True))
    for position, (item, result) in enumerate(zip(bad, results, strict=False)):
        assert result.vector is None and result.error.reason == item.key
        assert (result.error.index, result.error.field) == (position, f"items[{position}]")
    assert results[-1].error is None


def test_what_is_no_item_is_the_callers_mistake(client: Any) -> None:
    with pytest.raises(TypeError, match=r"items\[1\] must be a TextItem"):
        list(client.embed_stream([TextItem(1, "a"), "b"]))
    with pytest.raises(TypeError, match=r"items\[0\].text must be a str"):
        list(client.embed_stream([TextItem(1, b"a")]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype must be one of"):
        list(client.embed_stream([], dtype="f64"))


def test_the_credit_of_each_stream_is_respected(connect: Connect, service: StreamStandIn) -> None:
    """All that may be taken from the iterable is more than one stream may have."""

    def slow(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        for item in exchange.items():
            time.sleep(0.005)
            yield exchange.answer(item)

    service.max_items = 5
    service.scripts.extend([slow] * 3)
    items = texts(60)
    check(list(connect(connections=3).embed_stream(items)), items)
    assert service.most_unanswered <= 5


def test_messages_stay_within_their_limit(connect: Connect, service: StreamStandIn) -> None:
    service.max_message_bytes = 100_000
    items = [ImageItem(i, bytes([i]) * 40_000) for i in range(10)]
    assert len(list(connect().embed_stream(items))) == 10
    assert service.largest_message <= 100_000


def test_many_small_items_share_messages(client: Any, service: StreamStandIn) -> None:
    """A gateway answers in groups; each makes room for as many."""

    def in_groups(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        items = exchange.items()
        while group := list(itertools.islice(items, 40)):
            yield exchange.answer(*group)

    service.max_items = 512
    service.scripts.append(in_groups)
    items = texts(640)
    check(list(client.embed_stream(items)), items)
    assert len(service.message_items) < 100


def test_the_iterable_is_taken_as_fast_as_results_are(client: Any, service: StreamStandIn) -> None:
    taken = 0

    def endless() -> Iterator[TextItem]:
        nonlocal taken
        for taken in itertools.count(1):
            yield TextItem(taken, "x")

    results = client.embed_stream(endless())
    for _ in range(3):
        next(results)
    before = -1
    while taken != before:
        before = taken
        time.sleep(0.1)
    # The window, what was handed over, and what is being taken.
    assert taken <= 3 * service.max_items + 2
    results.close()


def test_a_slow_iterable_has_its_results_at_once(client: Any) -> None:
    got = threading.Event()

    def slow() -> Iterator[TextItem]:
        yield TextItem(0, "a")
        assert got.wait(10)
        yield TextItem(1, "b")

    results = client.embed_stream(slow())
    assert next(results).key == 0
    got.set()
    assert [result.key for result in results] == [1]


@pytest.mark.parametrize("ordered", [False, True])
def test_lost_streams_are_opened_again_and_only_the_unanswered_is_sent_again(
    client: Any, service: StreamStandIn, ordered: bool
) -> None:
    service.scripts.extend([dies_after(7), drains_after(10), dies_after(1), drains_after(3)])
    items = texts(60)
    check(list(client.embed_stream(items, ordered=ordered)), items, ordered)
    assert len(service.opened_s) == 5
    # At most a window is sent again each time, and nothing that was answered.
    assert sum(service.sent.values()) <= 60 + 4 * service.max_items


def test_a_silent_stream_is_given_up(client: Any, service: StreamStandIn) -> None:
    service.scripts.append(falls_silent)
    items = texts(5)
    check(list(client.embed_stream(items)), items)
    assert len(service.opened_s) == 2


def test_a_refusal_that_says_when_is_waited_out(client: Any, service: StreamStandIn) -> None:
    service.scripts.append(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, 300))
    assert len(list(client.embed_stream(texts(3)))) == 3
    first, second = service.opened_s
    assert second - first >= 0.29


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
    ],
)
def test_other_refusals_are_raised(
    client: Any, service: StreamStandIn, code: grpc.StatusCode, raised: type[Exception]
) -> None:
    service.scripts.append(refuses(code))
    with pytest.raises(raised, match="told to fail"):
        list(client.embed_stream(texts(3)))
    assert len(service.opened_s) == 1


def test_items_that_may_succeed_later_are_sent_again_so_often(
    connect: Connect, service: StreamStandIn
) -> None:
    def is_busy(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        for item in exchange.items():
            # The first succeeds at its third time, the second never does.
            if item.id == 1 or service.sent[item.id] < 3:
                yield busy(item)
            else:
                yield exchange.answer(item)

    service.scripts.append(is_busy)
    results = {result.key: result for result in connect(retries=2).embed_stream(texts(3))}
    assert service.sent == {0: 3, 1: 3, 2: 3}
    assert results["key", 1].error.reason == "BUSY" and results["key", 1].error.index == 1
    assert results["key", 0].error is None


def test_no_time_at_all_is_raised_at_once(client: Any) -> None:
    with pytest.raises(DeadlineExceeded, match="no item was answered for 0 s"):
        list(client.embed_stream(texts(1), timeout_s=0))
    gc.collect()  # what was never begun would warn


def test_no_progress_for_so_long_is_raised(client: Any, service: StreamStandIn) -> None:
    def stuck(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        while exchange.context.is_active():
            time.sleep(0.02)
            yield Response()

    service.scripts.append(stuck)
    with pytest.raises(DeadlineExceeded, match=r"no item was answered for 0\.3 s"):
        list(client.embed_stream(texts(3), timeout_s=0.3))


def test_time_in_the_callers_hands_does_not_count(client: Any, service: StreamStandIn) -> None:
    back = threading.Event()

    def waits_for_the_caller(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        for position, item in enumerate(exchange.items()):
            if position > 0:
                back.wait(10)
            yield exchange.answer(item)

    service.scripts.append(waits_for_the_caller)
    results = client.embed_stream(texts(3), timeout_s=0.5)
    next(results)
    time.sleep(0.6)  # busy with the first result
    threading.Timer(0.1, back.set).start()
    assert len(list(results)) == 2


def test_nobody_there(connect: Connect) -> None:
    client = connect(address="127.0.0.1:1", retries=0)
    with pytest.raises(Unavailable, match="cannot connect to"):
        list(client.embed_stream(texts(3), timeout_s=0.5))


def test_another_model_after_a_reconnect_ends_the_stream(client: Any, service: StreamStandIn) -> None:
    def other(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open(fingerprint="beef")

    service.scripts.extend([dies_after(2), other])
    with pytest.raises(InternalError, match="the served model changed"):
        list(client.embed_stream(texts(9)))


def test_what_the_iterable_raises_reaches_the_caller(client: Any, service: StreamStandIn) -> None:
    def broken() -> Iterator[TextItem]:
        yield from texts(3)
        raise KeyError("mine")

    results = client.embed_stream(broken())
    with pytest.raises(KeyError, match="mine"):
        for _ in range(4):
            next(results)


def test_who_leaves_early_leaves_nothing(client: Any, service: StreamStandIn) -> None:
    ended = threading.Event()

    def watched(exchange: Exchange) -> Iterator[Response]:
        exchange.context.add_callback(ended.set)
        yield from honest(exchange)

    service.scripts.append(watched)
    results = client.embed_stream(TextItem(i, "x") for i in itertools.count())
    next(results)
    results.close()
    assert ended.wait(5)


def test_several_connections_share_the_work(connect: Connect, service: StreamStandIn) -> None:
    items = texts(400)
    check(list(connect(connections=3).embed_stream(items, ordered=True)), items, True)
    assert len(service.peers) == 3


def test_streams_say_who_they_are(connect: Connect, service: StreamStandIn) -> None:
    list(connect(token="secret", priority="batch").embed_stream(texts(1)))
    (metadata,) = service.metadata
    assert metadata["authorization"] == "Bearer secret" and metadata["siglip-priority"] == "batch"
    assert len(metadata["x-request-id"]) == 16


def test_a_closed_client_says_so(connect: Connect, service: StreamStandIn) -> None:
    client = connect()
    results = client.embed_stream(TextItem(i, "x") for i in itertools.count())
    next(results)
    client.close()
    with pytest.raises(Unavailable, match="the client is closed"):
        list(results)


def test_asynchronous_items(connect: Connect, request: pytest.FixtureRequest) -> None:
    client = connect()
    if "sync]" in request.node.name and "asyncio" not in request.node.name:
        pytest.skip("of the asyncio client")

    async def items() -> AsyncIterator[TextItem]:
        for item in texts(100):
            yield item

    check(list(client.embed_stream(items())), texts(100))


def test_a_stream_that_has_ended_leaves_no_thread_of_grpc(
    service: StreamStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is still about when the program ends may die with a lock that the program's end waits for."""
    messages, senders = Stream._messages, list[threading.Thread]()

    def slow_to_end(self: Stream, link: Any) -> Iterator[Any]:
        senders.append(threading.current_thread())
        yield from messages(self, link)
        time.sleep(0.7)

    monkeypatch.setattr(Stream, "_messages", slow_to_end)
    with streaming(service) as address, Client(address) as client:
        check(list(client.embed_stream(texts(2))), texts(2))
        assert [sender.is_alive() for sender in senders] == [False]


def test_a_stream_of_days_does_not_remember_each_connection(
    service: StreamStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, streams = Stream._messages, list[Stream]()

    def seen(self: Stream, link: Any) -> Iterator[Any]:
        streams.append(self)
        return messages(self, link)

    monkeypatch.setattr(Stream, "_messages", seen)
    service.scripts.extend([drains_after(2)] * 30)
    with streaming(service) as address, Client(address) as client:
        check(list(client.embed_stream(texts(80))), texts(80))
    assert len(streams) > 30 and len(streams[0]._senders) < 10
