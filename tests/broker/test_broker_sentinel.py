"""A Sentinel and the primary that it watches; what happens when another is promoted is in tests/faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import BrokerUnavailable, QueueView, UnsuitableServer, connect_gateway
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.node import Node
from tests.support.queue_load import load
from tests.support.queue_worker import QueueWorker
from tests.support.roles import rules_of_both_ends
from tests.support.valkey import left_overs

NAME = "queue"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """The server has a user with a password, the Sentinel knows nobody."""
    folder = tmp_path_factory.mktemp("sentinel")
    primary = Node(folder)
    primary.ask("ACL", "SETUSER", "siglip", *rules_of_both_ends().split())
    sentinel = Node(folder, sentinel=f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 1")
    yield primary, sentinel
    sentinel.stop()
    primary.stop()


def settings_of(sentinel: Node, **changed: str) -> RedisSettings:
    url = f"redis://siglip:pass-word@127.0.0.1:1,{sentinel.address}"
    return RedisSettings(**{"redis_url": url, "redis_sentinel_name": NAME, **changed})  # type: ignore[arg-type]


async def test_the_primary_is_found_by_its_name(pair: tuple[Node, Node], tag: str, connect: Connect) -> None:
    """One of the Sentinels is away, the other has no passwords."""
    primary, sentinel = pair
    settings = settings_of(sentinel)
    gateway = await connect(settings)
    with QueueWorker(settings, tag) as worker:
        async with load(gateway) as calls:
            await calls.goes_on()
        assert worker.broker.stats["missed_beats"] == 0
    await gateway.close()
    assert (calls.wrong, calls.refused, calls.errors) == (0, 0, {})
    await until(lambda: not left_overs(f"redis://{primary.address}", tag))
    view = QueueView(settings_of(sentinel, redis_url=f"redis://{sentinel.address}"))
    assert [server.address for server in view.servers()] == [""]
    view.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"redis_sentinel_name": "other"}, r"(knows no primary named 'other'|refused)"),
        ({"redis_sentinel_name": ""}, "several hosts are for"),
    ],
)
async def test_what_is_wrong_is_one_clear_line(
    pair: tuple[Node, Node], tag: str, changed: dict[str, str], message: str
) -> None:
    with pytest.raises(BrokerUnavailable, match=message) as refused:
        await connect_gateway(settings_of(pair[1], **changed), tag=tag, fingerprint="f")
    assert "\n" not in str(refused.value) and "pass-word" not in str(refused.value)


async def test_a_sentinel_is_no_queue(pair: tuple[Node, Node], tag: str) -> None:
    settings = RedisSettings(redis_url=f"redis://{pair[1].address}")
    with pytest.raises(UnsuitableServer, match=r"this is a Sentinel: .*--redis-sentinel-name"):
        await connect_gateway(settings, tag=tag, fingerprint="f")


async def test_a_wrong_password_for_the_sentinel_is_told(tag: str, tmp_path: Path) -> None:
    strict = Node(tmp_path, sentinel=f"sentinel monitor {NAME} 127.0.0.1 1 1")
    strict.ask("ACL", "SETUSER", "default", "resetpass", ">right")
    settings = RedisSettings(redis_url=f"redis://:wrong@{strict.address}", redis_sentinel_name=NAME)
    with pytest.raises(BrokerUnavailable, match="invalid username-password"):
        await connect_gateway(settings, tag=tag, fingerprint="f")
    strict.stop()
