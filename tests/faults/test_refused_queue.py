"""A user who may not do enough, a certificate that has expired, a gateway of another version."""

import asyncio
import re
import ssl
from pathlib import Path

import pytest

from broker import BrokerUnavailable, EmbeddedServer, GatewayBroker, Row, RowError, wire
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.certificates import HAS_OPENSSL, authority, signed
from tests.support.line import line_to
from tests.support.queue_worker import FINGERPRINT, QueueWorker, start_process, text_row, vector_of
from tests.support.valkey import looking

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
# INFO may be lacking; these come before anything else.
FIRST = ["auth", "select", "info"]


def documented_commands() -> list[str]:
    """Those that operators are told to allow."""
    rules = OPERATIONS.read_text().partition("ACL SETUSER siglip ")[2].partition("```")[0]
    return [command for command in re.findall(r"\+([a-z|]+)", rules) if command not in FIRST]


@pytest.mark.fault(19)
async def test_each_command_that_a_user_lacks_is_named_by_both_ends(
    own_server: EmbeddedServer, tag: str
) -> None:
    url = own_server.url.replace("unix://", "unix://poor:pass-word@")
    commands = documented_commands()
    assert len(commands) > 20
    for lacking in commands:
        allowed = [f"+{command}" for command in commands if command != lacking]
        rules = ["reset", "on", ">pass-word", "~{siglip:*", "-@all", "+auth", *allowed]
        with looking(own_server.url) as connection:
            connection.execute_command("ACL", "SETUSER", "poor", *rules)
        told = f"this user may not send {lacking.upper().replace('|', ' ')}$"
        with pytest.raises(BrokerUnavailable, match=told):
            await GatewayBroker.connect(RedisSettings(redis_url=url), tag=tag, fingerprint=FINGERPRINT)
        worker = QueueWorker(url, tag)
        with pytest.raises(BrokerUnavailable, match=told):
            worker.broker.take(1, 0.1)
        worker.broker.close()
    with looking(own_server.url) as connection:
        connection.flushall()  # who may not delete leaves what it tried


@pytest.mark.fault(19)
async def test_a_permission_that_is_taken_away_ends_the_worker(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server)
    url = own_server.url.replace("unix://", "unix://poor:pass-word@")
    with looking(own_server.url) as connection:
        rules = ["on", ">pass-word", "~{siglip:*", "+@all"]
        connection.execute_command("ACL", "SETUSER", "poor", *rules)
        worker = QueueWorker(url, tag)
        assert await asyncio.to_thread(worker.broker.take, 1, 0.1) == []
        connection.execute_command("ACL", "SETUSER", "poor", "-xreadgroup")
        with pytest.raises(BrokerUnavailable, match="no permissions to run the 'xreadgroup' command"):
            await asyncio.to_thread(worker.broker.take, 1, 5)
        worker.broker.close()
    with QueueWorker(own_server.url, tag):
        await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)


@pytest.mark.fault(17)
async def test_a_gateway_of_another_version_is_told_so(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls end at once, those of its neighbour are answered."""
    gateway = await connect(embedded)
    worker = start_process(embedded.url, tag)
    try:
        with monkeypatch.context() as newer:
            newer.setattr(wire, "VERSION", 2)
            answer = await gateway.embed("text", [text_row(1)] * 3, (16,), "int32", deadline_s=10)
        for error in answer.rows:
            assert isinstance(error, RowError) and error.reason == "INVALID_JOB"
            assert "version is 2; this worker speaks 1" in error.message
        answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10)
        assert answer.rows == [Row(*vector_of(text_row(1)))]
    finally:
        worker.terminate()
        worker.wait()


@pytest.mark.fault(20)
@pytest.mark.skipif(not HAS_OPENSSL, reason="no openssl to make certificates with")
async def test_certificates_of_the_queue_expire_and_are_replaced(
    embedded: EmbeddedServer, tag: str, tmp_path: Path
) -> None:
    """Connections with the old one live on; new ones are told why not, and succeed with the next one."""
    by = authority(tmp_path)
    valid, expired = signed(by, tmp_path, "queue"), signed(by, tmp_path / "old", "queue", days=-1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(valid.certificate, valid.key)
    with line_to(embedded.url.removeprefix("unix://"), context) as port:
        settings = RedisSettings(redis_url=f"rediss://127.0.0.1:{port}", redis_ca_file=str(by.certificate))

        async def connected() -> GatewayBroker:
            return await GatewayBroker.connect(settings, tag=tag, fingerprint=FINGERPRINT)

        async def answered(gateway: GatewayBroker) -> None:
            answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=20)
            assert answer.rows == [Row(*vector_of(text_row(1)))]

        first = await connected()
        assert settings.redis_url and settings.redis_ca_file
        with QueueWorker(settings.redis_url, tag, ca_file=settings.redis_ca_file):
            await answered(first)
            context.load_cert_chain(expired.certificate, expired.key)
            await answered(first)
            with pytest.raises(BrokerUnavailable, match="certificate has expired"):
                await connected()
            with looking(embedded.url) as connection:
                connection.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: first.outage is not None)
            assert "certificate has expired" in str(first.outage)
            context.load_cert_chain(valid.certificate, valid.key)
            await until(lambda: first.outage is None)
            await answered(first)
            second = await connected()
            await answered(second)
            await second.close()
        await first.close()
