"""Calls side by side, and what long lists hold at a time."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from siglip.v1 import embedding_pb2, model_pb2

from siglip_client import AsyncClient, Client, DeadlineExceeded, Unavailable, channel
from tests.client.stand_in import Failure, StandIn


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address) as opened:
        await opened.get_model()
        yield opened


async def test_calls_of_the_asyncio_client_run_side_by_side(client: AsyncClient, service: StandIn) -> None:
    service.may_answer.clear()
    calls = [asyncio.create_task(client.embed_texts(["a"])) for _ in range(4)]
    await until(lambda: len(service.calls("EmbedTexts")) == 4)
    service.may_answer.set()
    assert [len(result) for result in await asyncio.gather(*calls)] == [1] * 4


async def test_a_cancelled_long_list_leaves_no_call_behind(client: AsyncClient, service: StandIn) -> None:
    service.may_answer.clear()
    task = asyncio.create_task(client.embed_texts(["a"] * 40))
    await until(lambda: len(service.calls("EmbedTexts")) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    service.may_answer.set()


async def test_a_call_that_gets_no_turn_ends_in_time(
    address: str, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CALLS_OF_A_CONNECTION", 1)
    with Client(address) as blocking:
        async with AsyncClient(address) as client:
            assert await client.get_model() == await asyncio.to_thread(blocking.get_model)
            service.may_answer.clear()
            first = [
                asyncio.create_task(client.embed_texts(["a"])),
                asyncio.create_task(asyncio.to_thread(blocking.embed_texts, ["a"])),
            ]
            await until(lambda: len(service.calls("EmbedTexts")) == 2)
            with pytest.raises(DeadlineExceeded, match="too many other calls"):
                await client.tokenize(["a"], timeout_s=0.1)
            with pytest.raises(DeadlineExceeded, match="too many other calls"):
                await asyncio.to_thread(blocking.tokenize, ["a"], timeout_s=0.1)
            service.may_answer.set()
            await asyncio.gather(*first)
            assert len(await client.tokenize(["a"])) == len(blocking.tokenize(["a"])) == 1, "a place was lost"


async def test_closing_the_asyncio_client_ends_what_waits_with_an_error_of_its_own(
    address: str, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CALLS_OF_A_CONNECTION", 1)
    client = AsyncClient(address)
    service.may_answer.clear()
    calls = [asyncio.create_task(client.tokenize(["a"])) for _ in range(3)]
    calls += [asyncio.create_task(client.get_model())]
    await until(lambda: service.seen)
    await client.close()
    ends = await asyncio.gather(*calls, client.get_model(), return_exceptions=True)
    service.may_answer.set()
    assert {str(end).partition(" [")[0] for end in ends} == {"UNAVAILABLE: the client is closed"}


@pytest.mark.parametrize("retries", [0, 4])
async def test_closing_the_blocking_client_ends_what_waits_with_an_error_of_its_own(
    address: str, service: StandIn, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setattr(channel, "CALLS_OF_A_CONNECTION", 1)
    client = Client(address, retries=retries)
    service.may_answer.clear()
    calls = [asyncio.create_task(asyncio.to_thread(client.get_model)) for _ in range(3)]
    await until(lambda: service.seen)
    client.close()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    service.may_answer.set()
    assert {str(end).partition(" [")[0] for end in ends} == {"UNAVAILABLE: the client is closed"}


class CountedFile(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        type(self).reads += 1
        return super().read(size)


@pytest.mark.parametrize("blocking", [True, False])
async def test_images_are_read_only_as_the_service_takes_them(
    client: AsyncClient, service: StandIn, blocking: bool
) -> None:
    class File(CountedFile):
        pass

    files = [File(f"image {i}".encode()) for i in range(60)]
    with Client(client.address) as blocking_client:
        blocking_client.get_model()
        service.may_answer.clear()
        call = asyncio.create_task(
            asyncio.to_thread(blocking_client.embed_images, files) if blocking else client.embed_images(files)
        )
        await until(lambda: len(service.calls("EmbedImages")) == 2)
        # Two calls of three images on the way, and the next one made ready.
        assert File.reads <= 3 * 3 + 1
        service.may_answer.set()
        assert len(await call) == File.reads == 60


def test_the_asyncio_client_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient("127.0.0.1:9")


@pytest.mark.parametrize("blocking", [True, False])
async def test_closing_ends_calls_that_wait_to_be_sent_again(
    address: str, service: StandIn, blocking: bool
) -> None:
    busy = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=(("grpc-retry-pushback-ms", "60000"),))
    service.failures.append(busy)
    request = embedding_pb2.EmbedTextsRequest(texts=["a"])
    client: Any = (Client if blocking else AsyncClient)(address, timeout_s=200)
    call = (
        asyncio.to_thread(client.call, "EmbedTexts", request)
        if blocking
        else client.call("EmbedTexts", request)
    )
    waiting = asyncio.create_task(call)
    await until(lambda: not service.failures and client._places._value == channel.CALLS_OF_A_CONNECTION)
    await (asyncio.to_thread(client.close) if blocking else client.close())
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="the client is closed"):
            await waiting


async def test_a_task_that_cleans_up_is_told_that_the_client_is_closed(address: str) -> None:
    client = AsyncClient(address)
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await client.call("GetModel", model_pb2.GetModelRequest())

    task = asyncio.create_task(work())
    await begun.wait()
    await client.close()
    task.cancel()
    with pytest.raises(Unavailable, match="the client is closed"):
        await task
