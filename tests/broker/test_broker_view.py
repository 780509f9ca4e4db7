"""What operators see of the queue, and whether a user may do all that the queue needs."""

import asyncio
from collections.abc import Iterator

import pytest

from broker import BrokerUnavailable, EmbeddedServer, QueueView, denied_commands
from broker.keys import Keys
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.entries import add, header
from tests.broker.waiting import until
from tests.support.queue_worker import FINGERPRINT, QueueWorker, text_row
from tests.support.valkey import looking, wait_until


@pytest.fixture
def view(own_server: EmbeddedServer) -> Iterator[QueueView]:
    view = QueueView(RedisSettings(redis_url=own_server.url))
    yield view
    view.close()


def test_an_unused_server(view: QueueView, own_server: EmbeddedServer) -> None:
    server = view.servers()[0]
    assert (server.name, server.policy) == ("Valkey", "noeviction")
    assert server.max_memory_bytes > server.memory_bytes > 0
    assert server.round_trip_s >= 0 and abs(server.clock_ahead_s) < 1
    assert view.models() == []
    assert list(view.dead_letters()) == []


async def test_waiting_work_and_its_age(
    view: QueueView, own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server)
    calls = [
        asyncio.create_task(gateway.embed("text", [text_row(n)], (16,), "int32", deadline_s=30))
        for n in range(3)
    ]
    await until(lambda: sum(gateway._held.depth.values()) == 3)
    (model,) = await asyncio.to_thread(view.models)
    text, vision = model.towers
    assert (model.tag, model.names, model.gateways) == (tag, [], 1)
    assert [(s.job_class, s.waiting, s.running) for s in text.streams] == [
        ("interactive", 3, 0),
        ("batch", 0, 0),
    ]
    assert 0 < text.streams[0].oldest_s < 30
    assert (text.workers, text.dead_letters, vision.streams[0].waiting) == ([], 0, 0)
    with QueueWorker(own_server.url, tag) as worker:
        await asyncio.gather(*calls)
        await asyncio.to_thread(wait_until, lambda: _rows(view) == 3)
        ((info, work),) = (await asyncio.to_thread(view.models))[0].towers[0].workers
    assert (info.worker_id, info.fingerprint) == (worker.worker_id, FINGERPRINT)
    assert work.rows == 3 and 1 <= work.batches <= 3 and work.compute_us >= 7


def _rows(view: QueueView) -> int:
    return sum(work.rows for _, work in view.models()[0].towers[0].workers)


def test_work_in_hand_counts_as_running(view: QueueView, own_server: EmbeddedServer, tag: str) -> None:
    with looking(own_server.url) as connection:
        key = Keys(tag).requests("text", "interactive")
        connection.xgroup_create(key, "workers", id="0", mkstream=True)
        ids = [add(own_server.url, tag) for _ in range(3)]
        connection.xreadgroup("workers", "somebody", {key: ">"}, count=2)
        (stream, _) = view.models()[0].towers[0].streams
        assert (stream.waiting, stream.running) == (1, 2)
        connection.xack(key, "workers", *ids)
        connection.xdel(key, *ids)


def test_dead_letters_are_shown_and_dropped(view: QueueView, own_server: EmbeddedServer, tag: str) -> None:
    fields = {b"reason": b"POISON_QUARANTINED", b"deliveries": b"4", b"row": b"1", b"entry_id": b"5-0"}
    with looking(own_server.url) as connection:
        connection.xadd(Keys(tag).dead_letters("vision"), {b"h": header(), **fields})  # type: ignore[dict-item]
        connection.xadd(
            Keys(tag).dead_letters("text"), {b"h": b"none of ours", b"row": b"", b"deliveries": b"x"}
        )
    letters = {letter.tower: letter for letter in view.dead_letters()}
    poison = letters["vision"]
    assert (poison.reason, poison.deliveries, poison.row, poison.shape) == (
        "POISON_QUARANTINED",
        4,
        1,
        [1, 16],
    )
    assert (letters["text"].row, letters["text"].deliveries, letters["text"].shape) == (None, 0, [])
    assert view.drop([poison]) == 1
    assert view.drop([poison]) == 0
    assert view.drop(list(view.dead_letters())) == 1
    assert list(view.dead_letters()) == []
    with looking(own_server.url) as connection:
        connection.delete(*(Keys(tag).dead_letters(tower) for tower in ("text", "vision")))  # type: ignore[arg-type]


def test_a_missing_server_is_one_line() -> None:
    settings = RedisSettings(redis_url="redis://:secret@127.0.0.1:1")
    view = QueueView(settings)
    for look in (view.servers, view.models, lambda: denied_commands(settings, "worker")):
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1") as error:
            look()
        assert "secret" not in str(error.value)
    view.close()
