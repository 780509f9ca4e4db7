"""What doctor and the commands advise where service or queue do not answer as they should."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from siglip_cli import calling
from siglip_cli.main import run
from tests.gateway.conftest import serving, settings_for
from tests.support import certificates
from tests.support.certificates import Pair
from tests.support.tcp_server import TcpServer

Captured = pytest.CaptureFixture[str]
NEEDS_OPENSSL = pytest.mark.skipif(
    not certificates.HAS_OPENSSL, reason="no openssl to make certificates with"
)


def problem(capsys: Captured, what: str, *arguments: object) -> tuple[str, str]:
    """Text and remedy of what doctor finds there."""
    assert run(["doctor", "--json", *map(str, arguments)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if line["what"] == what]
    assert found["level"] == "problem", found
    return found["text"], found["remedy"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificates.authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def listening(pair: Pair | None) -> Iterator[str]:
    """Address of a gRPC server without a service, in clear where there is no certificate."""
    server = grpc.server(ThreadPoolExecutor(1))
    if pair:
        credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    ("kind", "ca_file", "remedy"),
    [
        ("in clear", "authority.pem", "if it speaks no TLS, give neither --ca-file nor --tls on"),
        ("good", "", "if it speaks TLS, give --ca-file or --tls on"),
        ("good", "stranger/authority.pem", "is this the right address and --ca-file?"),
        ("expired", "authority.pem", "its certificate has ended: renew it"),
    ],
)
def test_tls_that_does_not_fit(
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    authority: Pair,
    kind: str,
    ca_file: str,
    remedy: str,
) -> None:
    folder = authority.certificate.parent
    certificates.authority(folder / "stranger")
    days = -1 if kind == "expired" else 2
    pair = None if kind == "in clear" else certificates.signed(authority, folder, "server", days=days)
    monkeypatch.setattr(calling, "open_client", partial(calling.open_client, retries=0))
    with listening(pair) as address:
        place = ["--address", address, *(["--ca-file", str(folder / ca_file)] if ca_file else [])]
        text, told = problem(capsys, "gateway", *place)
        assert told == remedy and "nobody serves" not in text
        assert run(["embed-text", "a cat", *place]) == 3
    err = capsys.readouterr().err
    assert remedy in err and "start it" not in err


def test_another_service_is_not_nobody(capsys: Captured) -> None:
    with listening(None) as address:
        text, remedy = problem(capsys, "gateway", "--address", address)
    assert "UNIMPLEMENTED" in text and "is it a gateway's --address?" in remedy


@NEEDS_OPENSSL
def test_a_ca_file_without_a_certificate_is_told_at_once(capsys: Captured, authority: Pair) -> None:
    place = ["--address", "127.0.0.1:1", "--ca-file", str(authority.key)]
    assert run(["embed-text", "a cat", *place]) == 2
    assert f"there is no certificate in {authority.key}" in capsys.readouterr().err
    assert "there is no certificate in" in problem(capsys, "gateway", *place)[0]


@pytest.mark.parametrize(
    ("url", "more", "text", "remedy"),
    [
        ("{url}", ["--redis-cluster", "on"], "is no node of a cluster", "drop --redis-cluster on"),
        ("{url}", ["--redis-sentinel-name", "q"], "is no Sentinel", "drop --redis-sentinel-name"),
        ("redis://me:wrong@{place}", [], "username-password pair", "correct user or password"),
        ("rediss://{place}", [], "Timeout connecting to server; if it speaks no TLS: redis://", "correct"),
        ("redis://{place}/99", [], "DB index is out of range", "correct the database's number"),
        ("redis://{place}/abc", [], "must be the number of a database", "correct it, or --redis-url"),
    ],
)
def test_a_queue_that_is_another_than_was_said(
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    plain: str,
    url: str,
    more: list[str],
    text: str,
    remedy: str,
) -> None:
    monkeypatch.setattr("broker.connection.SOCKET_TIMEOUT_S", 0.2)
    monkeypatch.setattr("siglip_cli.doctor.certificates.TIMEOUT_S", 0.2)
    given = url.format(url=plain, place=plain.removeprefix("redis://"))
    found = problem(capsys, "queue", "--address", "127.0.0.1:1", "--redis-url", given, *more)
    assert text in found[0] and remedy in found[1]


def test_a_full_server_is_a_problem(capsys: Captured) -> None:
    with TcpServer("valkey", "--maxmemory", "100kb") as server:
        found = problem(capsys, "memory", "--address", "127.0.0.1:1", "--redis-url", server.url)
    assert found[1] == "calls are refused now: add workers or memory"


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with TcpServer("valkey") as server:
        yield server.url


@pytest.mark.asyncio(loop_scope="session")
async def test_a_token_is_asked_for(capsys: Captured, model: Path, plain: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[tokens.a]\nsha256 = "{"0" * 64}"\n')
    async with serving(settings_for(model, plain, token_file=str(tokens))) as served:
        place = ["--address", f"127.0.0.1:{served.gateway.port}"]
        text, remedy = await asyncio.to_thread(problem, capsys, "gateway", *place)
    assert "does not know us" in text and remedy == "give or renew --token (SIGLIP_TOKEN)"
