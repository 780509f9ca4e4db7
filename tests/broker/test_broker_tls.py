"""`rediss://` against real TLS: whom each side believes, what a refusal says, and renewed certificates."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import BrokerUnavailable, EmbeddedServer, GatewayBroker, GatewayLimits, Row
from broker.connection import check_files
from siglip_settings import RedisSettings
from tests.broker.waiting import until
from tests.support.certificates import HAS_OPENSSL, Pair, authority, signed
from tests.support.queue_worker import FINGERPRINT, QueueWorker, text_row, vector_of
from tests.support.tls_proxy import make_certificate, tls_in_front_of
from tests.support.valkey import debian_redis

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="no openssl to make certificates with")
NO_REDIS = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on this machine")
RIGHT = [Row(*vector_of(text_row(1)))]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return authority(tmp_path_factory.mktemp("ours"))


def settings_of(ca: Pair | None, own: Pair | None) -> dict[str, str]:
    files = {"redis_ca_file": ca and ca.certificate}
    if own:
        files |= {"redis_cert_file": own.certificate, "redis_key_file": own.key}
    return {name: str(file) for name, file in files.items() if file}


def serving(server: Pair, believes: Pair) -> list[str]:
    """Arguments of redis-server: mutual TLS."""
    files = {"cert": server.certificate, "key": server.key, "ca-cert": believes.certificate}
    words = [word for name, file in files.items() for word in (f"--tls-{name}-file", str(file))]
    return [*words, "--tls-auth-clients", "yes"]


async def connected(url: str, tls: dict[str, str], tag: str = "t") -> GatewayBroker:
    return await GatewayBroker.connect(
        RedisSettings(redis_url=url, **tls),
        tag=tag,
        fingerprint=FINGERPRINT,
        limits=GatewayLimits(check_every_s=0.05),
    )


@pytest.fixture(scope="module")
def refusing(ours: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of servers that nobody should believe, and of a good one."""
    folder = tmp_path_factory.mktemp("servers")
    pairs = {
        "good": signed(ours, folder / "good", "server"),
        "expired": signed(ours, folder / "expired", "server", days=-1),
        "other name": signed(ours, folder / "other", "server", names="DNS:queue.example"),
    }
    with (
        debian_redis(folder, *serving(pairs["good"], ours), tls=True) as good,
        debian_redis(folder, *serving(pairs["expired"], ours), tls=True) as expired,
        debian_redis(folder, *serving(pairs["other name"], ours), tls=True) as other,
    ):
        yield {"good": good, "expired": expired, "other name": other}


@NO_REDIS
@pytest.mark.parametrize(
    ("server", "ca", "own", "told"),
    [
        ("good", "", "ours", "certificate verify failed: self-signed"),
        ("good", "theirs", "ours", "certificate verify failed"),
        ("expired", "ours", "ours", "certificate has expired"),
        ("other name", "ours", "ours", "certificate is not valid for '127.0.0.1'"),
        ("good", "ours", "", "certificate required"),
        ("good", "ours", "theirs", "unknown ca"),
        ("good", "ours", "expired", "certificate expired"),
    ],
)
@pytest.mark.fault(20)
async def test_a_refusal_is_one_line(
    ours: Pair, refusing: dict[str, str], tmp_path: Path, server: str, ca: str, own: str, told: str
) -> None:
    authorities = {"ours": ours, "theirs": authority(tmp_path / "theirs")}
    days = -1 if own == "expired" else 2
    pair = signed(authorities.get(own, ours), tmp_path, "client", days=days) if own else None
    tls = settings_of(authorities.get(ca), pair)
    with pytest.raises(BrokerUnavailable) as refused:
        await connected(refusing[server], tls)
    text = str(refused.value)
    # The server's alert may be lost when it closes the connection.
    assert told in text or (own != "ours" and "perhaps it wants a certificate of ours" in text)
    assert text.startswith("Redis at rediss://127.0.0.1:") and "\n" not in text
    worker = QueueWorker(refusing[server], "t", tls=tls)
    worker.broker.take(1, 0.01)
    assert not worker.broker.connected
    worker.broker.close()


@NO_REDIS
@pytest.mark.fault(20)
async def test_renewed_certificates_are_taken_when_connecting_again(
    ours: Pair, tmp_path: Path, tag: str
) -> None:
    """The authority itself is another one; nobody but Redis starts again."""
    files = {"server": signed(ours, tmp_path, "server"), "client": signed(ours, tmp_path, "client")}
    believed = Pair(tmp_path / "believed.pem", tmp_path / "believed.key")
    shutil.copy(ours.certificate, believed.certificate)
    tls = settings_of(believed, files["client"])
    arguments = serving(files["server"], believed)
    with debian_redis(tmp_path, *arguments, tls=True) as url:
        gateway = await connected(url, tls, tag)
        worker = QueueWorker(url, tag, tls=tls)
        worker.__enter__()
        assert (await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)).rows == RIGHT
    await until(lambda: gateway.outage and not worker.broker.connected)
    theirs = authority(tmp_path / "theirs")
    for name in files:
        signed(theirs, tmp_path, name)
    shutil.copy(theirs.certificate, believed.certificate)
    port = int(url.rpartition(":")[2])
    with debian_redis(tmp_path, *arguments, tls=True, port=port):
        await until(lambda: not gateway.outage)
        assert (await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)).rows == RIGHT
        await asyncio.to_thread(worker.stop)
        await gateway.close()


@pytest.mark.parametrize("broken", ["ca", "cert"])
def test_files_that_cannot_be_used_are_named(ours: Pair, tmp_path: Path, broken: str) -> None:
    pair = signed(ours, tmp_path, "client")
    if broken == "ca":
        (tmp_path / "empty.pem").write_text("nothing")
        tls = {"redis_ca_file": str(tmp_path / "empty.pem")}
    else:
        tls = {"redis_cert_file": str(pair.certificate), "redis_key_file": str(ours.key)}
    with pytest.raises(BrokerUnavailable, match=r"cannot use Redis over TLS with /.*: ") as refused:
        check_files(RedisSettings(redis_url="rediss://127.0.0.1:1", **tls))
    assert "\n" not in str(refused.value)


async def test_a_given_authority_without_a_client_certificate(
    embedded: EmbeddedServer, tag: str, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = {"redis_ca_file": str(certificate)}
    with tls_in_front_of(embedded.url.removeprefix("unix://"), certificate, key) as port:
        url = f"rediss://127.0.0.1:{port}"
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            await connected(url, {})
        gateway = await connected(url, tls, tag)
        with QueueWorker(url, tag, tls=tls):
            answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=20)
        await gateway.close()
    assert answer.rows == RIGHT
