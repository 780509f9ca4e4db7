"""One Redis user for each role: enough for everything that it does, and for nothing else."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from broker import (
    ROLES,
    BrokerUnavailable,
    EmbeddedServer,
    GatewayBroker,
    GatewayLimits,
    QueueView,
    Role,
    Row,
    RowError,
    denied_commands,
    rules_of,
)
from broker.keys import Keys
from broker.roles import Permission, permissions_of
from siglip_settings import RedisSettings
from tests.broker.test_broker_hand_back import die_with_it, sent, take
from tests.broker.waiting import until
from tests.support.queue_worker import FINGERPRINT, QueueWorker, text_row, vector_of
from tests.support.roles import add_users, as_user, set_user
from tests.support.valkey import debian_redis, left_overs, looking, wait_until

NO_REDIS = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on this machine")
ROW = text_row(1)
RIGHT = Row(*vector_of(ROW))


@pytest.fixture(params=["Valkey", pytest.param("Redis", marks=NO_REDIS)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a server that has a user for each role."""
    if request.param == "Valkey":
        url = request.getfixturevalue("own_server").url
        add_users(url)
        yield url
        return
    with debian_redis(tmp_path) as url:
        add_users(url)
        yield url


@pytest.fixture
def url(own_server: EmbeddedServer) -> str:
    add_users(own_server.url)
    return own_server.url


async def connected(url: str, tag: str, user: str = "gateway") -> GatewayBroker:
    return await GatewayBroker.connect(
        RedisSettings(redis_url=as_user(url, user)),
        tag=tag,
        fingerprint=FINGERPRINT,
        limits=GatewayLimits(check_every_s=0.05),
    )


async def test_a_life_of_a_queue_with_these_users(server: str, tag: str) -> None:
    """Answers, cancelled and withdrawn work, hand-back, reclaim, poison, loss of all data."""
    gateway = await connected(server, tag)
    with QueueWorker(server, tag) as worker, QueueWorker(server, tag, "vision"):
        for job_class in ("interactive", "batch"):
            answer = await gateway.embed(
                "text",
                [ROW],
                (16,),
                "int32",
                deadline_s=20,
                job_class=job_class,  # type: ignore[arg-type]
            )
            assert answer.rows == [RIGHT]
        picture = bytes(12)
        assert (await gateway.embed("vision", [picture], (3, 2, 2), "uint8", deadline_s=20)).rows
        assert worker.broker.stats["missed_beats"] == 0
    await cancelled(gateway, server, tag)
    await handed_back_and_reclaimed(gateway, server, tag)
    await given_up(gateway, server, tag)
    await asyncio.to_thread(look_at, server)
    await lost(gateway, server, tag)
    await gateway.close()
    assert left_overs(server, tag) == {}


async def cancelled(gateway: GatewayBroker, url: str, tag: str) -> None:
    call = await sent(gateway, url, tag)
    call.cancel()
    stream = Keys(tag).requests("text", "interactive")
    with looking(url) as connection:
        await until(lambda: connection.xlen(stream) == 0)


async def handed_back_and_reclaimed(gateway: GatewayBroker, url: str, tag: str) -> None:
    call = await sent(gateway, url, tag)
    die_with_it(url, tag, times=1)
    leaving = QueueWorker(url, tag)
    await take(leaving)
    leaving.broker.close()
    with QueueWorker(url, tag) as rescuer:
        assert len((await call).rows) == 3
        # The dead worker's name leaves the group by a transaction.
        assert rescuer.broker.stats["reclaimed"] == 1
        with looking(url) as connection:
            stream = Keys(tag).requests("text", "interactive")
            names = lambda: {each["name"] for each in connection.xinfo_consumers(stream, "workers")}  # noqa: E731
            await until(lambda: b"dead" not in names())


async def given_up(gateway: GatewayBroker, url: str, tag: str) -> None:
    call = await sent(gateway, url, tag)
    die_with_it(url, tag, times=2)
    by_row = QueueWorker(url, tag)
    await take(by_row)  # leaves a mark, and dies
    by_row.broker._heartbeat.stop()
    by_row.broker._heartbeat.end_lease()
    with QueueWorker(url, tag):
        first, *others = (await call).rows
    assert isinstance(first, RowError) and first.reason == "POISON_QUARANTINED"
    assert not [row for row in others if isinstance(row, RowError)]


async def lost(gateway: GatewayBroker, url: str, tag: str) -> None:
    call = await sent(gateway, url, tag)
    with looking(url) as connection:
        connection.flushall()
    with QueueWorker(url, tag):
        assert len((await call).rows) == 3
    assert gateway.stats["losses"] == 1


def look_at(url: str) -> None:
    """What operators do, and the scaler."""
    view = QueueView(RedisSettings(redis_url=as_user(url, "operator")))
    assert [server.policy for server in view.servers()] == ["noeviction"]
    (model,) = view.models()
    assert model.towers[0].dead_letters == 1
    assert view.drop(list(view.dead_letters())) == 1
    view.close()


async def test_an_operator_sees_work_that_waits(url: str, tag: str) -> None:
    gateway = await connected(url, tag)
    call = await sent(gateway, url, tag)
    view = QueueView(RedisSettings(redis_url=as_user(url, "operator")))
    (model,) = await asyncio.to_thread(view.models)
    view.close()
    (text, _) = model.towers
    assert text.streams[0].waiting == 1 and text.streams[0].oldest_s > 0
    scaler = redis.Redis.from_url(as_user(url, "scaler"), protocol=2, driver_info=None)
    assert scaler.ping() and scaler.xlen(Keys(tag).requests("text", "interactive")) == 1
    scaler.close()
    call.cancel()
    await gateway.close()


def every_permission() -> list[tuple[Role, Permission]]:
    return [(role, permission) for role in ROLES for permission in permissions_of(role)]


def without(role: Role, left_out: Permission) -> str:
    """Rules of the role without one command for one kind of key."""
    groups = rules_of(role).replace("(", "\n(").replace(")", ")\n").splitlines()
    word = f"+{left_out.command}"

    def concerns(group: str) -> bool:
        return f":{left_out.kind}:" in group if left_out.kind else not group.startswith("(")

    kept = [
        " ".join(group.replace(f"{word})", ")").replace(f"{word} ", "").split()) if concerns(group) else group
        for group in (f"{group} " for group in groups)
    ]
    return " ".join(kept)


@pytest.mark.fault(19)
def test_every_missing_command_is_named(url: str) -> None:
    for role, permission in every_permission():
        set_user(url, "poor", without(role, permission))
        settings = RedisSettings(redis_url=as_user(url, "poor"))
        assert denied_commands(settings, role) == [permission], (role, permission)
    with looking(url) as connection:
        assert connection.dbsize() == 0


@pytest.mark.parametrize("role", ["gateway", "worker"])
@pytest.mark.fault(19)
async def test_a_process_does_not_start_without_one_of_its_commands(url: str, tag: str, role: Role) -> None:
    for permission in permissions_of(role):
        set_user(url, "poor", without(role, permission))
        if permission.is_optional:
            continue
        needs = f"a {role} needs more than this user may do: {permission};"
        with pytest.raises(BrokerUnavailable) as refused:
            if role == "gateway":
                await connected(url, tag, "poor")
            else:
                worker = QueueWorker(as_user(url, "poor"), tag)
                try:
                    worker.broker.take(1, 0.1)
                finally:
                    worker.broker.close()
        told = str(refused.value)
        assert needs in told or f"'{permission.command}' command" in told, told
        assert "\n" not in told


DENIED: dict[Role, list[str]] = {
    "gateway": [
        "GET {lease}",
        "SET {lease} x",
        "DEL {lease}",
        "DEL {requests}",
        "XRANGE {requests} - +",
        "XREAD STREAMS {requests} 0",
        "XREADGROUP GROUP workers me STREAMS {requests} >",
        "XTRIM {requests} MINID 9",
        "XRANGE {dead} - +",
        "XADD {dead} * h x",
    ],
    "worker": [
        "XADD {requests} * h x",
        "XRANGE {requests} - +",
        "DEL {requests}",
        "XREAD STREAMS {replies} 0",
        "XRANGE {replies} - +",
        "DEL {replies}",
        "XRANGE {dead} - +",
    ],
    "operator": [
        "XADD {requests} * h x",
        "XDEL {requests} 1-1",
        "DEL {requests}",
        "XRANGE {replies} - +",
        "XADD {dead} * h x",
        "SET {lease} x",
    ],
    "scaler": [
        "XRANGE {requests} - +",
        "XREAD STREAMS {requests} 0",
        "XADD {requests} * h x",
        "XDEL {requests} 1-1",
        "XLEN {replies}",
        "XLEN {dead}",
        "INFO",
        "SCAN 0",
    ],
}
FOREIGN = [
    "GET foreign",
    "SET foreign x",
    "XLEN foreign",
    "XADD foreign * h x",
    "DEL foreign",
    "TYPE foreign",
]
ADMIN = [
    *("KEYS *", "CONFIG GET *", "FLUSHALL", "FLUSHDB", "SHUTDOWN", "ACL LIST", "ACL WHOAMI", "CLIENT LIST"),
    *("MONITOR", "EVAL return(1) 0", "SCRIPT FLUSH", "FUNCTION LIST", "SUBSCRIBE x"),
    *("PUBLISH x y", "REPLICAOF NO ONE", "DBSIZE", "RANDOMKEY", "SELECT 1", "SAVE", "SLOWLOG GET"),
]


@pytest.mark.parametrize("role", ROLES)
def test_everything_else_is_denied(server: str, tag: str, role: Role) -> None:
    keys = Keys(tag)
    names = {kind: f"{keys.prefix}:{kind}:x" for kind in ("requests", "replies", "lease", "running", "dead")}
    with looking(as_user(server, role)) as connection:
        for command in [*DENIED[role], *FOREIGN, *ADMIN]:
            with pytest.raises(NoPermissionError):
                connection.execute_command(*[word.format(**names) for word in command.split()])


@pytest.mark.fault(19)
async def test_a_command_that_is_taken_away_later_is_named_and_calls_end(
    url: str, tag: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await connected(url, tag)
    with QueueWorker(url, tag) as worker:
        assert (await gateway.embed("text", [ROW], (16,), "int32", deadline_s=10)).rows == [RIGHT]
        set_user(url, "gateway", without("gateway", Permission("xread", "replies")))
        await until(lambda: gateway.outage)
        assert "a gateway needs more than this user may do: XREAD (replies);" in str(gateway.outage)
        with pytest.raises(BrokerUnavailable):
            await gateway.embed("text", [ROW], (16,), "int32", deadline_s=10)
        set_user(url, "gateway", rules_of("gateway"))
        await until(lambda: not gateway.outage)
        set_user(url, "worker", without("worker", Permission("xreadgroup", "requests")))
        await until(lambda: "no permissions to run the 'xreadgroup' command" in caplog.text)
        set_user(url, "worker", rules_of("worker"))
        await asyncio.to_thread(wait_until, lambda: worker.broker.connected)
        set_user(url, "worker", without("worker", Permission("xadd", "replies")))
        call = asyncio.create_task(gateway.embed("text", [ROW], (16,), "int32", deadline_s=10))
        await until(lambda: "answers wait for Redis: " in caplog.text)
        set_user(url, "worker", rules_of("worker"))
        assert (await call).rows == [RIGHT]
        assert (await gateway.embed("text", [ROW], (16,), "int32", deadline_s=10)).rows == [RIGHT]
    await gateway.close()
    assert "Traceback" not in caplog.text
