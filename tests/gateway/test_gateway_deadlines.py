"""Calls end in every state, by their deadline or by their client: counted, and nothing is left of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pytest
import pytest_asyncio
from siglip.v1 import embedding_pb2, zero_shot_pb2

from gateway.deadlines import given_up_in_time
from gateway.errors import StartError
from siglip_model import scoring
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.gateway.test_gateway_overload import nothing_left, waiting_in_queue
from tests.support.pages import scraped, total

pytestmark = pytest.mark.asyncio(loop_scope="session")

How = Literal["deadline", "cancelled"]
TEXT = embedding_pb2.EmbedTextsRequest(texts=["a"])
HOW: list[How] = ["deadline", "cancelled"]
# Long enough to get anywhere on a busy machine.
TIMEOUT_S = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(start: Start, workers: dict[str, FakeWorker]) -> AsyncIterator[Served]:
    async with start(metrics_listen="127.0.0.1:0") as served:
        yield served


async def counted(served: Served, name: str, **labels: str) -> float:
    page = served.gateway.page
    assert page
    return total(await asyncio.to_thread(scraped, page.port), name, **labels)


async def ended(served: Served, how: How, stage: str) -> tuple[float, float]:
    """Calls that ended so, and all that ended early."""
    return (
        await counted(served, "siglip_ended_calls_total", how=how, stage=stage),
        await counted(served, "siglip_ended_calls_total"),
    )


async def withdrawn(served: Served, state: str) -> float:
    return await counted(served, "siglip_queue_events_total", event=f"withdrawn_{state}")


async def end(call: Any, how: How, there: Callable[[], Awaitable[None]]) -> None:
    """Waits until the call is `there`, and lets it end."""
    await there()
    if how == "cancelled":
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        assert (await refused(call)).code.name == "DEADLINE_EXCEEDED"


async def test_while_decoding(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, never = asyncio.Event(), asyncio.Event()

    async def decode(images: Any, *_: Any) -> Any:
        decoding.set()
        await never.wait()

    async def there() -> None:
        await decoding.wait()
        decoding.clear()

    monkeypatch.setattr(served.gateway.parts.embedder._decoders, "decode_all", decode)
    request = zero_shot_pb2.ClassifyRequest(images=[picture(1)], labels=["a"])
    for how in HOW:
        one, all_of_them = await ended(served, how, "decode")
        call = served.zero_shot.Classify(request, timeout=TIMEOUT_S)
        await end(call, how, there)
        await nothing_left(served)
        # The other side, its texts, was further on.
        assert await ended(served, how, "decode") == (one + 1, all_of_them + 1)


@pytest.mark.parametrize("how", HOW)
async def test_in_the_queue(served: Served, text_worker: FakeWorker, how: How) -> None:
    text_worker.pause()
    one, all_of_them = await ended(served, how, "queue")
    waiting, in_work = await withdrawn(served, "waiting"), await withdrawn(served, "in_work")
    call = served.embedding.EmbedTexts(TEXT, timeout=TIMEOUT_S)
    await end(call, how, lambda: waiting_in_queue(served, "text", 1))
    await nothing_left(served)
    assert await ended(served, how, "queue") == (one + 1, all_of_them + 1)
    assert await withdrawn(served, "waiting") == waiting + 1
    assert await withdrawn(served, "in_work") == in_work


@pytest.mark.parametrize("how", HOW)
async def test_in_work(served: Served, text_worker: FakeWorker, how: How) -> None:
    text_worker.hold()
    one, all_of_them = await ended(served, how, "queue")
    waiting, in_work = await withdrawn(served, "waiting"), await withdrawn(served, "in_work")
    call = served.embedding.EmbedTexts(TEXT, timeout=TIMEOUT_S)
    await end(call, how, lambda: until(lambda: text_worker.held == 1))
    await nothing_left(served)
    assert await ended(served, how, "queue") == (one + 1, all_of_them + 1)
    assert await withdrawn(served, "in_work") == in_work + 1
    assert await withdrawn(served, "waiting") == waiting
    text_worker.resume()


async def test_while_scoring(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs to its end; a reply that nobody reads any more is no answer."""
    sigmoid = scoring.sigmoid

    def slow(*given: Any) -> Any:
        time.sleep(TIMEOUT_S + 0.2)
        return sigmoid(*given)

    monkeypatch.setattr(scoring, "sigmoid", slow)
    one, all_of_them = await ended(served, "deadline", "reply")
    request = zero_shot_pb2.ScoreRequest(images=[picture(1)], texts=["a"])
    assert (
        await refused(served.zero_shot.Score(request, timeout=TIMEOUT_S))
    ).code.name == "DEADLINE_EXCEEDED"
    assert await ended(served, "deadline", "reply") == (one + 1, all_of_them + 1)


async def test_an_answered_call_is_not_counted(served: Served) -> None:
    before = await counted(served, "siglip_ended_calls_total")
    await served.embedding.EmbedTexts(TEXT, timeout=30)
    assert await counted(served, "siglip_ended_calls_total") == before


async def test_the_default_is_for_calls_without_a_deadline(start: Start, text_worker: FakeWorker) -> None:
    async with start(default_deadline_s=0.1, max_deadline_s=30) as served:
        text_worker.pause()
        asked = asyncio.ensure_future(served.embedding.EmbedTexts(TEXT, timeout=20))
        error = await refused(served.embedding.EmbedTexts(TEXT))
        assert (error.code.name, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert not asked.done()
        text_worker.resume()
        assert (await asked).results[0].HasField("embedding")


async def test_a_default_above_the_longest_is_one_clear_line(start: Start) -> None:
    with pytest.raises(
        StartError, match=r"^--default-deadline-s is 30; it may be at most --max-deadline-s, 10$"
    ):
        async with start(default_deadline_s=30.0, max_deadline_s=10.0):
            pass


@pytest.mark.parametrize(
    ("allowed_s", "left_s", "in_time"),
    [(10, 10, True), (10, 1, True), (0.1, 0.03, True), (0.1, 0.015, False), (10, 0.1, False), (10, 0, False)],
)
async def test_a_client_that_leaves_at_its_deadline(allowed_s: float, left_s: float, in_time: bool) -> None:
    assert given_up_in_time(allowed_s, left_s) is in_time
