"""Rows go in, the right vectors come out, in order."""

import asyncio
import threading

import pytest

from broker import EmbeddedServer, GatewayBroker, Job, Row, RowError, WorkerBroker, WorkerInfo
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.entries import add
from tests.support.queue_worker import DIM, FAILS, FINGERPRINT, QueueWorker, text_row, vector_of
from tests.support.valkey import looking

IMAGE_SHAPE = (3, 4, 4)


def image(number: int) -> bytes:
    return bytes([number]) * 48


async def test_a_text_comes_back_as_its_vector(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    gateway = await connect(embedded)
    with QueueWorker(embedded.url, tag):
        answer = await gateway.embed("text", [text_row(5)], (16,), "int32", deadline_s=10)
    assert answer.rows == [Row(*vector_of(text_row(5)))]
    assert (answer.dim, answer.compute_us) == (DIM, 7)
    assert 0 <= answer.queue_us < 10_000_000


async def test_twenty_images_are_three_entries_shared_by_two_workers(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    both = threading.Barrier(2)
    seen: list[Job] = []

    def meet(jobs: list[Job]) -> None:
        if jobs and not seen:
            both.wait(10)
        seen.extend(jobs)

    with (
        QueueWorker(embedded.url, tag, "vision", on_jobs=meet) as one,
        QueueWorker(embedded.url, tag, "vision", on_jobs=meet) as other,
    ):
        rows = [image(number) for number in range(20)]
        answer = await gateway.embed("vision", rows, IMAGE_SHAPE, "uint8", deadline_s=20)
    assert answer.rows == [Row(*vector_of(row)) for row in rows]
    assert sorted(job.rows for job in seen) == [4, 8, 8]
    assert one.jobs and other.jobs


async def test_no_entry_is_larger_than_the_smallest_batch_of_live_workers(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    rows = [text_row(number) for number in range(10)]
    with (
        QueueWorker(embedded.url, tag, max_batch_rows=4) as one,
        QueueWorker(embedded.url, tag, max_batch_rows=32) as other,
    ):
        await until_workers(gateway, 2)
        answer = await gateway.embed("text", rows, (16,), "int32", deadline_s=20)
    assert answer.rows == [Row(*vector_of(row)) for row in rows]
    assert sorted(job.rows for job in [*one.jobs, *other.jobs]) == [2, 4, 4]


async def test_rows_of_both_towers_and_classes_do_not_meet(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    with QueueWorker(embedded.url, tag, "text") as text, QueueWorker(embedded.url, tag, "vision") as vision:
        await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10, job_class="batch")
        await gateway.embed("vision", [image(1)], IMAGE_SHAPE, "uint8", deadline_s=10)
    assert [job.dtype for job in text.jobs] == ["int32"]
    assert [job.dtype for job in vision.jobs] == ["uint8"]


async def test_a_failed_row_leaves_its_neighbours(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    rows = [text_row(1), text_row(FAILS), text_row(2)]
    with QueueWorker(embedded.url, tag):
        answer = await gateway.embed("text", rows, (16,), "int32", deadline_s=10)
        alone = await gateway.embed("text", [rows[1]], (16,), "int32", deadline_s=10)
    error = RowError("COMPUTE_FAILED", "this row fails", retryable=False)
    assert answer.rows == [Row(*vector_of(rows[0])), error, Row(*vector_of(rows[2]))]
    assert alone.rows == [error]


async def test_rows_of_the_wrong_size_are_the_callers_mistake(
    embedded: EmbeddedServer, connect: Connect
) -> None:
    gateway = await connect(embedded)
    with pytest.raises(ValueError, match=r"rows\[1\] has 60 bytes; \(16,\) int32 has 64"):
        await gateway.embed("text", [text_row(1), bytes(60)], (16,), "int32", deadline_s=1)
    with pytest.raises(ValueError, match="text takes int32, not uint8"):
        await gateway.embed("text", [bytes(16)], (16,), "uint8", deadline_s=1)


async def test_no_rows_need_no_worker(embedded: EmbeddedServer, connect: Connect) -> None:
    gateway = await connect(embedded)
    assert (await gateway.embed("text", [], (16,), "int32", deadline_s=1)).rows == []


async def test_live_workers_are_listed_with_what_they_compute_with(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    assert await gateway.workers("text") == []
    with QueueWorker(embedded.url, tag, worker_id="w1"):
        await until_workers(gateway, 1)
        info = WorkerInfo("w1", "text", "cpu", "float32", "sdpa", FINGERPRINT)
        assert await gateway.workers("text") == [info]
        assert await gateway.workers("vision") == []
    await until_workers(gateway, 0)


async def until_workers(gateway: GatewayBroker, number: int) -> None:
    async with asyncio.timeout(5):
        while len(await gateway.workers("text")) != number:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)


def test_take_keeps_to_its_rows(embedded: EmbeddedServer, tag: str) -> None:
    """What a read brought beyond them waits for the next take."""
    worker = WorkerBroker(
        RedisSettings(redis_url=embedded.url),
        tag=tag,
        tower="text",
        fingerprint=FINGERPRINT,
        info=WorkerInfo("w", "text", "cpu", "float32", "sdpa", FINGERPRINT),
    )
    assert worker.take(4, 0.01) == []
    for rows in (3, 3, 9, 1):
        add(embedded.url, tag, rows=rows)
    taken = [[job.rows for job in worker.take(4, 0.5)] for _ in range(3)]
    assert taken == [[3], [3], [9]]
    worker.close()
    with looking(embedded.url) as connection:
        for key in connection.scan_iter(match=f"*{tag}*"):
            connection.delete(key)


async def test_many_calls_at_once_share_pipelines_and_all_get_their_own(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    with QueueWorker(embedded.url, tag) as worker:
        rows = [text_row(number) for number in range(1000, 1200)]
        calls = [gateway.embed("text", [row], (16,), "int32", deadline_s=20) for row in rows]
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == [[Row(*vector_of(row))] for row in rows]
    assert len(worker.jobs) == 200
    assert worker.broker.stats["reclaimed"] == 0
