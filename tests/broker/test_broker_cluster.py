"""One cluster for all tests here: keys are found where they are, also after they have moved."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import (
    BrokerUnavailable,
    QueueView,
    UnsuitableServer,
    connect_gateway,
    denied_commands,
    rules_of,
)
from broker.keys import Keys
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.entries import header
from tests.broker.waiting import until
from tests.support.certificates import HAS_OPENSSL, authority, signed
from tests.support.cluster import Cluster, cluster, slot_of
from tests.support.node import Node
from tests.support.queue_load import load
from tests.support.queue_worker import FINGERPRINT, QueueWorker
from tests.support.roles import rules_of_both_ends
from tests.support.valkey import debian_redis, free_port, left_overs, looking

NO_REDIS = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on this machine")
SHARDS = 4


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        for node in found.nodes:
            node.ask("ACL", "SETUSER", "siglip", *rules_of_both_ends().split())
            node.ask("ACL", "SETUSER", "operator", *f"on >pass-word {rules_of('operator')}".split())
        yield found


def settings_of(nodes: Cluster, *, user: str = "", shards: int = SHARDS) -> RedisSettings:
    url = nodes.url.replace("redis://", f"redis://{user}")
    return RedisSettings(redis_url=url, redis_cluster="on", redis_shards=shards)


async def test_shards_are_on_several_nodes_and_all_are_seen(
    nodes: Cluster, tag: str, connect: Connect
) -> None:
    """With a user who may do what the documentation says, and no more."""
    settings = settings_of(nodes, user="siglip:pass-word@")
    gateway = await connect(settings)
    with QueueWorker(settings, tag) as worker:
        async with load(gateway) as calls:
            await calls.goes_on(500)
        view = QueueView(settings_of(nodes, user="operator:pass-word@"))
        (model,) = await asyncio.to_thread(view.models)
        servers = await asyncio.to_thread(view.servers)
        assert worker.broker.stats["missed_beats"] == 0
    view.close()
    assert (calls.wrong, calls.refused, calls.errors) == (0, 0, {})
    assert len({nodes.owner_of(tag, shard).port for shard in range(SHARDS)}) >= 2
    assert (model.tag, model.shards, model.gateways) == (tag, SHARDS, 1)
    ((_, work),) = model.towers[0].workers
    assert 0 < work.rows <= calls.right  # not once for each shard
    assert model.towers[0].unserved == 0
    assert sorted(server.address for server in servers) == sorted(n.address for n in nodes.primaries())
    denied = [each for role in ("gateway", "worker") for each in denied_commands(settings, role)]
    assert {each.command for each in denied} == {"info"}
    await gateway.close()
    await until(lambda: not nodes.left_overs(tag))


async def test_a_moving_slot_loses_nothing(nodes: Cluster, tag: str, connect: Connect) -> None:
    """Without INFO the move is noticed too."""
    settings = settings_of(nodes, user="siglip:pass-word@", shards=1)
    gateway = await connect(settings)
    source = nodes.owner_of(tag)
    with QueueWorker(settings, tag):
        async with load(gateway) as calls:
            await calls.goes_on()
            target = nodes.other_primary(source)
            await asyncio.to_thread(nodes.start_moving, slot_of(tag), target)
            await asyncio.to_thread(nodes.move_keys, slot_of(tag), source, target)
            await asyncio.to_thread(nodes.end_moving, slot_of(tag), source, target)
            await calls.goes_on()
    assert (calls.wrong, calls.errors) == (0, {})
    assert gateway.stats["losses"] == 1
    await gateway.close()
    await until(lambda: not nodes.left_overs(tag))


def test_dead_letters_of_every_shard_are_shown_and_dropped(nodes: Cluster, tag: str) -> None:
    fields = (b"h", header(), b"reason", b"POISON_QUARANTINED", b"deliveries", b"4", b"row", b"")
    for shard in range(SHARDS):
        nodes.owner_of(tag, shard).ask("XADD", Keys(tag, shard).dead_letters("text"), "*", *fields)
    view = QueueView(settings_of(nodes, user="operator:pass-word@"))
    letters = [letter for letter in view.dead_letters() if letter.tag == tag]
    assert [letter.shard for letter in letters] == list(range(SHARDS))
    assert view.drop(letters) == SHARDS
    assert not list(view.dead_letters())
    view.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"redis_cluster": "off"}, r"several hosts are for --redis-cluster on"),
        ({"redis_cluster": "off", "redis_url": "one"}, "node of a cluster: set --redis-cluster on"),
        ({"redis_sentinel_name": "queue"}, "either --redis-sentinel-name or --redis-cluster on, not both"),
        ({"redis_url": "redis://127.0.0.1:1,127.0.0.1:2"}, r"^Redis at redis://127.0.0.1:1,.* refused"),
        ({"redis_url": "redis://127.0.0.1:1,127.0.0.1:x"}, "cannot use the Redis URL .*[Pp]ort"),
        ({"redis_url": "unix:///nowhere"}, "a unix socket is neither a Sentinel nor a cluster"),
        ({"redis_cluster": "off", "redis_sentinel_name": "queue"}, "is no Sentinel"),
        ({"redis_url": "nobody"}, "invalid username-password pair"),
    ],
)
async def test_what_is_wrong_is_one_clear_line(
    nodes: Cluster, tag: str, changed: dict[str, str], message: str
) -> None:
    urls = {
        "one": f"redis://{nodes.nodes[0].address}",
        "nobody": nodes.url.replace("//", "//nobody:secret@"),
        "": nodes.url,
    }
    url = changed.get("redis_url", "")
    given = {"redis_cluster": "on", **changed, "redis_url": urls.get(url, url)}
    settings = RedisSettings(**given, redis_shards=2)  # type: ignore[arg-type]
    with pytest.raises((BrokerUnavailable, UnsuitableServer), match=message) as refused:
        await connect_gateway(settings, tag=tag, fingerprint="f")
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


async def test_a_server_outside_a_cluster_is_told_from_a_node(tmp_path: Path, tag: str) -> None:
    alone = Node(tmp_path)
    settings = RedisSettings(redis_url=f"redis://{alone.address}", redis_cluster="on")
    with pytest.raises(BrokerUnavailable, match="is no node of a cluster"):
        await connect_gateway(settings, tag=tag, fingerprint="f")
    worker = QueueWorker(settings, tag)
    with pytest.raises(BrokerUnavailable, match="is no node of a cluster"):
        worker.broker.take(1, 0.1)
    await asyncio.to_thread(worker.broker.close)
    alone.stop()


@pytest.mark.slow
@NO_REDIS
@pytest.mark.skipif(not HAS_OPENSSL, reason="no openssl to make a certificate with")
async def test_a_cluster_with_tls(tmp_path: Path, tag: str) -> None:
    """Of one node: the embedded server has no TLS, Debian's has."""
    issuer = authority(tmp_path)
    pair, port = signed(issuer, tmp_path, "node"), str(free_port())
    options = {
        "tls-port": port, "tls-cluster": "yes", "cluster-enabled": "yes", "cluster-port": str(free_port()),
        "tls-cert-file": str(pair.certificate), "tls-key-file": str(pair.key),
        "tls-ca-cert-file": str(issuer.certificate), "tls-auth-clients": "no",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with debian_redis(tmp_path, *words) as plain_url:
        with looking(plain_url) as connection:
            connection.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await until(lambda: b"cluster_state:ok" in connection.execute_command("CLUSTER", "INFO"))
        settings = RedisSettings(
            redis_url=f"rediss://127.0.0.1:{port}", redis_cluster="on", redis_ca_file=str(issuer.certificate)
        )
        gateway = await connect_gateway(settings, tag=tag, fingerprint=FINGERPRINT)
        with QueueWorker(settings, tag):
            async with load(gateway) as calls:
                await calls.goes_on()
        await gateway.close()
        assert (calls.wrong, calls.refused, calls.errors) == (0, 0, {})
        assert left_overs(plain_url, tag) == {}
