"""A cluster loses nodes and moves slots under load: every call is answered, rightly and once."""

import asyncio
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import model_tag
from siglip_cli.probe import serves
from siglip_model.fingerprint import fingerprint
from siglip_settings import RedisSettings
from tests.faults.fleet import Part
from tests.faults.load import Book, Caller, right_answers
from tests.faults.service import service
from tests.support.cluster import Cluster, cluster, slot_of
from tests.support.valkey import free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.fault(8)]
SHAPES = Path(__file__).parents[2] / "checkpoints" / "shapes"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as found:
        yield found


def settings_of(nodes: Cluster, shards: int) -> RedisSettings:
    return RedisSettings(redis_url=nodes.url, redis_cluster="on", redis_shards=shards)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
async def test_a_primary_fails(nodes: Cluster, shards: int, fault: str) -> None:
    tag = secrets.token_hex(8)
    async with service(settings_of(nodes, shards), tag, nodes.left_overs) as (gateway, calls):
        lost = nodes.owner_of(tag)
        if fault == "SIGKILL":
            await asyncio.to_thread(lost.kill)
        else:
            await asyncio.to_thread(lost.signal, signal.SIGSTOP)
        await asyncio.to_thread(wait_until, lambda: nodes.has_left(lost, tag))
        await calls.goes_on()
        if fault == "SIGKILL":
            await asyncio.to_thread(lost.start)
        else:
            lost.signal(signal.SIGCONT)
        await asyncio.to_thread(wait_until, nodes.is_well)
    assert gateway.stats["losses"] >= 1


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_slot_moves(nodes: Cluster, shards: int) -> None:
    """While its keys are at two nodes the queue waits; then it goes on at the new one."""
    tag = secrets.token_hex(8)
    async with service(settings_of(nodes, shards), tag, nodes.left_overs) as (gateway, calls):
        for _ in range(2):
            target = nodes.other_primary(nodes.owner_of(tag))
            source = await asyncio.to_thread(nodes.start_moving, slot_of(tag), target)
            await calls.goes_on()
            await asyncio.to_thread(nodes.move_keys, slot_of(tag), source, target)
            await asyncio.sleep(0.5)  # calls meet keys that are neither here nor there
            await asyncio.to_thread(nodes.end_moving, slot_of(tag), source, target)
            await calls.goes_on()
    assert gateway.stats["losses"] == 2


async def test_a_shard_is_lost_for_good(nodes: Cluster) -> None:
    """The others answer what waited in it, and all that comes."""
    tag = secrets.token_hex(8)
    for node in nodes.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with service(settings_of(nodes, 4), tag, nodes.left_overs) as (_, calls):
        lost = nodes.nodes_of(tag)
        for node in lost:
            await asyncio.to_thread(node.kill)
        await asyncio.sleep(3)
        for node in lost:
            await asyncio.to_thread(node.start)
        await asyncio.to_thread(wait_until, nodes.is_well)
    assert max(calls.took_s) < 5


@pytest.mark.parametrize("shards", [1, 4])
def test_the_whole_service_loses_a_primary(nodes: Cluster, tmp_path: Path, shards: int) -> None:
    """Processes as `siglip` starts them, and clients that retry what is refused while the queue is away."""
    tag, book = model_tag(SHAPES.name, fingerprint(SHAPES)), Book()
    with whole_service(nodes, tmp_path, shards) as address, callers(address, book):
        wait_until(lambda: book.right > 100, 60)
        lost, answered, began = nodes.owner_of(tag), book.right, time.monotonic()
        lost.kill()
        if shards == 1:
            wait_until(lambda: nodes.has_left(lost, tag))
        wait_until(lambda: book.right > answered + 20, 60)
        print(f"{shards} shards: 20 answers within {time.monotonic() - began:.2f} s of the death")
        lost.start()
        wait_until(nodes.is_well)
        wait_until(lambda: book.right > answered + 300, 60)
    print(book)
    assert (book.lost, book.wrong, book.miscounted, book.late) == (0, 0, 0, 0)
    # Some have a deadline that nobody can keep.
    allowed = {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert set(book.errors) <= allowed, (tmp_path / "gateway.log").read_text()
    wait_until(lambda: not nodes.left_overs(tag), 5)


@contextmanager
def whole_service(nodes: Cluster, folder: Path, shards: int) -> Iterator[str]:
    """The gateway's address."""
    environ = {
        "SIGLIP_MODEL": str(SHAPES),
        "SIGLIP_REDIS_URL": nodes.url,
        "SIGLIP_REDIS_CLUSTER": "on",
        "SIGLIP_REDIS_SHARDS": str(shards),
    }
    address = f"127.0.0.1:{free_port()}"
    commands = {"gateway": ["gateway", "--listen", address]}
    for tower in ("text", "vision"):
        commands[tower] = ["worker", "--tower", tower, "--threads", "1"]
    parts = [Part(name, words, environ, folder / f"{name}.log") for name, words in commands.items()]
    try:
        for part in parts:
            part.start()
        wait_until(lambda: serves(address), 100)
        yield address
    finally:
        for part in parts:
            part.end(signal.SIGTERM)


@contextmanager
def callers(address: str, book: Book) -> Iterator[None]:
    """Four that call without a pause."""
    threads = [Caller(address, right_answers(SHAPES), book, f"{seed}", 0.02) for seed in range(4)]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join(30)
