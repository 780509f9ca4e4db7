"""Other people's servers: URLs, users, versions, policies."""

import asyncio
import re
from pathlib import Path

import pytest

from broker import BrokerUnavailable, EmbeddedServer, GatewayBroker, Row, UnsuitableServer
from broker.connection import check_server, shown_url, sync_client
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.certificates import HAS_OPENSSL, authority
from tests.support.queue_worker import FINGERPRINT, QueueWorker, text_row, vector_of
from tests.support.roles import as_user, rules_of_both_ends, set_user
from tests.support.tcp_server import HAS_REDIS, TcpServer
from tests.support.valkey import left_overs, looking


async def gateway_to(url: str | None, **settings: str) -> GatewayBroker:
    return await GatewayBroker.connect(RedisSettings(redis_url=url, **settings), tag="t", fingerprint="f")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://me:secret@127.0.0.1:1/0", r"Redis at redis://me@127\.0\.0\.1:1/0: .*Connect"),
        ("unix:///nowhere/valkey.sock", "Redis at unix:///nowhere/valkey.sock: .*No such file"),
        ("http://me:secret@127.0.0.1", r"cannot use the Redis URL http://me@127\.0\.0\.1: .*redis://"),
        ("redis://:secret@[::1", "cannot use the Redis URL"),
        ("default:secret@host:6379", r"cannot use the Redis URL \(unreadable\): .*redis://"),
        ("redis//:secret@host", r"cannot use the Redis URL \(unreadable\): .*redis://"),
        ("redis://me:secret/x@host", r"cannot use the Redis URL \(unreadable\): Port could not be cast"),
        ("redis://secret:secret?@host", r"cannot use the Redis URL \(unreadable\): Port"),
        ("redis://me:sec'secret/@host", r"cannot use the Redis URL \(unreadable\): Port"),
        ("redis://host:6379/0?foo=bar", r"cannot use the Redis URL redis://host:6379/0: .* argument 'foo'"),
        ("redis://host?protocol=9", "cannot use the Redis URL redis://host: protocol must be"),
        ("redis://host?db=secret", r"cannot use the Redis URL redis://host: Invalid value"),
        ("redis://me:secret@host/abc?db=0", "redis://me@host/abc: .* must be the number of a database"),
        ("redis://host/1/2", "redis://host/1/2: .* must be the number of a database"),
        (None, "no Redis URL given: set SIGLIP_REDIS_URL or --redis-url"),
    ],
)
async def test_a_wrong_url_is_one_line_without_the_password(url: str | None, message: str) -> None:
    with pytest.raises(BrokerUnavailable) as refused:
        await gateway_to(url)
    text = str(refused.value)
    assert re.search(message, text), text
    assert "secret" not in text and "\n" not in text


def test_the_worker_is_told_of_an_option_that_redis_does_not_know() -> None:
    with pytest.raises(BrokerUnavailable, match="unexpected keyword argument 'foo'"):
        sync_client(RedisSettings(redis_url="redis://127.0.0.1:1?foo=bar"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:secret@127.0.0.1:1",
        "redis://127.0.0.1:1?password=secret",
        "unix://:secret@/nowhere/valkey.sock",
    ],
)
def test_a_password_in_the_url_and_another_beside_it_are_refused(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="give one of them") as refused:
        sync_client(RedisSettings(redis_url=url, redis_password="secret"))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("end", ["\n", " \r\n"])
def test_the_end_of_the_line_of_a_file_is_no_part_of_the_url(end: str) -> None:
    with sync_client(RedisSettings(redis_url=f"redis://me:secret@127.0.0.1:1/3{end}")) as client:
        assert client.connection_pool.connection_kwargs["db"] == 3


async def test_missing_tls_files_are_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"there is no file /nowhere/ca\.pem"):
        await gateway_to("rediss://127.0.0.1:1", redis_ca_file="/nowhere/ca.pem")


@pytest.mark.skipif(not HAS_OPENSSL, reason="no openssl to make certificates with")
@pytest.mark.parametrize("more", [{}, {"redis_cluster": "on"}, {"redis_sentinel_name": "queue"}])
def test_files_that_are_just_being_renewed_are_waited_for(tmp_path: Path, more: dict[str, str]) -> None:
    ca = authority(tmp_path)
    settings = RedisSettings(  # type: ignore[arg-type]
        redis_url="rediss://127.0.0.1:1", redis_ca_file=str(ca.certificate), **more
    )
    worker = QueueWorker(settings, "t")
    assert worker.broker.take(1, 0.1) == []
    ca.certificate.unlink()
    assert worker.broker.take(1, 0.1) == []
    worker.broker.close()


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14 is too old: Redis >= 7.0 or Valkey >= 7.2"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "Valkey 7.1.0 is too old"),
        ({"redis_version": "8.0.0", "maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ({"redis_version": "8.0.0", "maxmemory_policy": "volatile-ttl"}, "maxmemory-policy is volatile-ttl"),
    ],
)
def test_unsuitable_servers_are_refused(info: dict[str, str], message: str) -> None:
    with pytest.raises(UnsuitableServer, match=re.escape(message)):
        check_server(info)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.0", "maxmemory_policy": "noeviction"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2", "maxmemory_policy": "noeviction"},
        {"redis_version": "10.0"},
        {},
    ],
)
def test_suitable_servers_are_not(info: dict[str, str]) -> None:
    check_server(info)


@pytest.mark.fault(18)
async def test_both_ends_refuse_a_server_that_evicts(own_server: EmbeddedServer, tag: str) -> None:
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(UnsuitableServer, match="set it to noeviction"):
        await gateway_to(own_server.url)
    worker = QueueWorker(own_server.url, tag)
    with pytest.raises(UnsuitableServer, match="set it to noeviction"):
        worker.broker.take(1, 0.1)
    worker.broker.close()


@pytest.fixture
def url_of_user(own_server: EmbeddedServer, tag: str) -> str:
    set_user(own_server.url, "siglip", rules_of_both_ends())
    return as_user(own_server.url, "siglip")


@pytest.mark.fault(19)
async def test_an_acl_user_without_info_is_enough(
    own_server: EmbeddedServer, tag: str, url_of_user: str
) -> None:
    settings = RedisSettings(redis_url=url_of_user)
    gateway = await GatewayBroker.connect(settings, tag=tag, fingerprint=FINGERPRINT)
    call = asyncio.create_task(gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10))
    await until(lambda: any(state.oldest_s for state in gateway.streams()))  # alerts rest on it
    with QueueWorker(url_of_user, tag) as worker:
        answer = await call
    await gateway.close()
    assert answer.rows == [Row(*vector_of(text_row(1)))]
    assert worker.broker.stats["missed_beats"] == 0


async def test_a_wrong_password_is_told_at_once_on_both_ends(
    own_server: EmbeddedServer, tag: str, url_of_user: str
) -> None:
    wrong = url_of_user.replace("pass-word", "secret")
    with pytest.raises(BrokerUnavailable, match="invalid username-password") as refused:
        await gateway_to(wrong)
    assert "secret" not in str(refused.value)
    worker = QueueWorker(wrong, tag)
    with pytest.raises(BrokerUnavailable, match="invalid username-password"):
        worker.broker.take(1, 0.1)
    worker.broker.close()


def test_shown_url_keeps_user_and_place() -> None:
    url = "rediss://user:p%40ss@host.example:6380/2?ssl_cert_reqs=none"
    assert shown_url(RedisSettings(redis_url=url)) == "rediss://user@host.example:6380/2"
    url = "unix:///srv/a@b/valkey.sock?password=secret"
    assert shown_url(RedisSettings(redis_url=url)) == "unix:///srv/a@b/valkey.sock"


@pytest.mark.skipif(not HAS_REDIS, reason="no redis-server on this machine")
async def test_redis_of_the_machine_serves_as_well(tag: str, connect: Connect) -> None:
    with TcpServer("redis") as server:
        gateway = await connect(server.url)
        with QueueWorker(server.url, tag):
            answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
        await gateway.close()
        assert answer.rows == [Row(*vector_of(text_row(1)))]
        assert left_overs(server.url, tag) == {}
