"""Who may call: TLS, client certificates, tokens; and what each may hold."""

import asyncio
import hashlib
import logging
import re
import shutil
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from siglip.v1 import embedding_pb2

from broker.jobs import ROWS_PER_ENTRY
from broker.sender import WINDOW_WHILE_PACE_IS_UNKNOWN
from gateway import access
from gateway.access import Access, Caller, peer_name, read_tokens
from gateway.admission import Admission
from gateway.errors import Overloaded, StartError, Unauthenticated
from gateway.listen import is_local
from gateway.tls import Certificates
from siglip_client import AsyncClient, Unavailable
from siglip_client import Overloaded as ClientOverloaded
from siglip_client import Unauthenticated as Refused
from tests.broker.waiting import until
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker
from tests.gateway.rig import refused as refused_call
from tests.support import certificates
from tests.support.certificates import Pair

pytestmark = pytest.mark.asyncio(loop_scope="session")
NEEDS_OPENSSL = pytest.mark.skipif(
    not certificates.HAS_OPENSSL, reason="no openssl to make certificates with"
)
SECRET, OTHER = "correct-horse", "battery-staple"


def entry(name: str, token: str, **more: int) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    lines = [f"[tokens.{name}]", f'sha256 = "{digest}"', *(f"{key} = {value}" for key, value in more.items())]
    return "\n".join(lines) + "\n"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(entry("search", SECRET) + entry("small", OTHER, max_in_flight_rows=2))
    return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificates.authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def client_of(served: Served, **options: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{served.gateway.port}", retries=0, **options) as client:
        yield client


async def works(served: Served, **options: Any) -> None:
    async with client_of(served, **options) as client:
        assert len(await client.embed_texts(["a cat"])) == 1


async def test_a_token_is_needed_and_health_is_open(
    start: Start, tokens: Path, workers: dict[str, FakeWorker], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with start(token_file=str(tokens)) as served:
        for wrong, reason in ((None, "TOKEN_MISSING"), ("nonsense", "TOKEN_UNKNOWN"), ("", "TOKEN_MISSING")):
            async with client_of(served, token=wrong) as client:
                with pytest.raises(Refused) as refused:
                    await client.embed_texts(["a cat"])
            assert refused.value.reason == reason
        await works(served, token=SECRET)
        reply = await served.health.Check(health_pb2.HealthCheckRequest(service="liveness"))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    called = [record.fields["caller"] for record in caplog.records if hasattr(record, "fields")]
    assert called == ["", "", "", "search", "search"]
    assert SECRET not in caplog.text and hashlib.sha256(SECRET.encode()).hexdigest() not in caplog.text


async def test_tokens_are_read_again(
    start: Start, tokens: Path, workers: dict[str, FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_LOOK_EVERY_S", 0)
    async with start(token_file=str(tokens)) as served:
        await works(served, token=SECRET)
        tokens.write_text("not toml [")  # the old ones stay
        await works(served, token=SECRET)
        tokens.write_text('[tokens]\nsearch = "x"\n')
        await works(served, token=SECRET)
        tokens.write_text("")
        await works(served, token=SECRET)
        tokens.write_text(entry("new", "fresh"))
        await works(served, token="fresh")
        async with client_of(served, token=SECRET) as client:
            with pytest.raises(Refused, match="not known"):
                await client.embed_texts(["a cat"])


async def test_a_token_has_limits_of_its_own(start: Start, tokens: Path, text_worker: FakeWorker) -> None:
    text_worker.pause()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(start(token_file=str(tokens)))
        small = await stack.enter_async_context(client_of(served, token=OTHER))
        search = await stack.enter_async_context(client_of(served, token=SECRET))
        first = asyncio.create_task(small.embed_texts(["a", "b"]))
        await until(lambda: served.gateway.parts.admission.rows == 2)
        with pytest.raises(ClientOverloaded, match="max_in_flight_rows of caller small is 2") as refused:
            await small.embed_texts(["c"])
        assert refused.value.retry_after_s
        others = asyncio.create_task(search.embed_texts(["d", "e", "f"]))
        await until(lambda: served.gateway.parts.admission.rows == 5)
        text_worker.resume()
        assert [len(await call) for call in (first, others)] == [2, 3]
        # Three at once can never fit; the client is told so, and makes two calls of them.
        request = embedding_pb2.EmbedTextsRequest(texts=["a", "b", "c"])
        metadata = [("authorization", f"Bearer {OTHER}")]
        too_many = await refused_call(served.embedding.EmbedTexts(request, metadata=metadata))
        assert too_many.code is grpc.StatusCode.INVALID_ARGUMENT and "RetryInfo" not in too_many.details
        assert (
            "3 texts and images given, at most 2 allowed (max_in_flight_rows of caller small)"
            in too_many.message
        )
        async with AsyncClient(f"127.0.0.1:{served.gateway.port}", token=OTHER) as patient:
            assert len(await patient.embed_texts(["a", "b", "c"])) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "unknown table 'x'"),
        ("tokens = 1", "tokens must be tables"),
        ('[tokens]\nteam = "x"', r"tokens\.toml: team is not a table: \[tokens\.team\]"),
        ("[tokens.a]", "sha256 must be 64 hexadecimal digits"),
        (entry("a", "x").replace('= "', '= "Z'), "sha256 must be 64"),
        (entry("a", "x", rows=1), "not 'rows'"),
        (entry("a", "x", max_in_flight_rows=0), "max_in_flight_rows is 0"),
        (entry('"a b"', "x"), "a name is 1 to 64"),
        ("[", "Expected|Invalid|invalid"),
        ("# none yet", "there is no token in it"),
        (entry("a", "x") + entry("b", "x"), r"\[tokens\.a\] and \[tokens\.b\] have the same sha256"),
    ],
)
async def test_a_wrong_token_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(StartError, match=message):
        Access(str(file))
    with pytest.raises(StartError, match="No such file"):
        Access(str(tmp_path / "none"))


async def test_tokens_do_not_travel_in_clear(start: Start, tokens: Path) -> None:
    with pytest.raises(StartError, match="tokens would travel in clear"):
        async with start(listen="0.0.0.0:0", token_file=str(tokens)):
            pass
    with pytest.raises(ValueError, match="travel in clear to gateway:1"):
        AsyncClient("gateway:1", token="x")


async def test_names_of_callers(tokens: Path) -> None:
    assert peer_name("ipv4:127.0.0.1:5000") == "127.0.0.1"
    assert peer_name("ipv6:%5B::1%5D:5000") == "[::1]"
    assert peer_name("unix:/tmp/x") == "unix"
    assert Access(None).caller(None, "ipv4:10.0.0.9:1", None) == Caller("10.0.0.9")
    assert Access(None).caller(None, "ipv4:10.0.0.9:1", "team") == Caller("team")
    assert Access(None).caller(None, "unix:", "A\nteam").name == "A%0Ateam"  # no line of its own in the log
    assert len(Access(None).caller(None, "unix:", "\n" * 999).name) == 64
    with pytest.raises(Unauthenticated):
        Access(str(tokens)).caller(b"Bearer x", "unix:", "team")
    assert [token.caller.name for token in read_tokens(tokens)] == ["search", "small"]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        (":1", False),
        ("192.0.2.1:1", False),
    ],
)
async def test_what_is_local(address: str, local: bool) -> None:
    assert is_local(address) is local


async def days_left(served: Served) -> int:
    """By the metrics page."""
    assert served.gateway.page
    url = f"http://127.0.0.1:{served.gateway.page.port}/metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
    (line,) = re.findall(r"^siglip_tls_certificate_expiry_seconds (.+)$", page, re.MULTILINE)
    return round((float(line) - time.time()) / 86400)


@pytest.mark.fault(20)
@NEEDS_OPENSSL
async def test_tls_and_a_new_certificate(
    start: Start, tmp_path: Path, authority: Pair, workers: dict[str, FakeWorker]
) -> None:
    """The files are replaced under a running gateway, first by ones that do not fit together."""
    files = certificates.signed(authority, tmp_path, "server")
    later = certificates.authority(tmp_path / "later")
    new = certificates.signed(later, tmp_path / "later", "server", days=5)
    tls = {"tls_cert_file": str(files.certificate), "tls_key_file": str(files.key)}
    async with start(**tls, metrics_listen="127.0.0.1:0") as served:
        await works(served, ca_file=authority.certificate)
        assert await days_left(served) == 2
        for wrong in ({"ca_file": later.certificate}, {"tls": True}, {}):
            with pytest.raises(Unavailable):
                await works(served, timeout_s=5, **wrong)
        shutil.copy(new.certificate, files.certificate)
        await works(served, ca_file=authority.certificate)
        shutil.copy(new.key, files.key)
        await works(served, ca_file=later.certificate)
        assert await days_left(served) == 5
        with pytest.raises(Unavailable):
            await works(served, ca_file=authority.certificate, timeout_s=5)


def replace(used: Pair, by: Pair) -> None:
    shutil.copy(by.certificate, used.certificate)
    shutil.copy(by.key, used.key)


@NEEDS_OPENSSL
async def test_an_expired_certificate_is_told_and_replaces_no_good_one(
    tmp_path: Path, authority: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    good = certificates.signed(authority, tmp_path, "good")
    ended = certificates.signed(authority, tmp_path, "ended", days=-1)
    used = Pair(tmp_path / "used.pem", tmp_path / "used.key")
    served = Certificates(used.certificate, used.key, None)
    replace(used, ended)
    served.first()
    assert re.search(r"used\.pem ended on \d{4}-\d\d-\d\d: clients refuse it", caplog.text)
    for pair, taken in ((good, True), (ended, False), (good, True)):
        replace(used, pair)
        assert (served.changed() is not None) == taken
    assert "is not taken, the old one stays" in caplog.text


@NEEDS_OPENSSL
async def test_mutual_tls_names_the_caller(
    start: Start,
    tmp_path: Path,
    authority: Pair,
    workers: dict[str, FakeWorker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server, team = (certificates.signed(authority, tmp_path, name) for name in ("server", "team"))
    stranger = certificates.signed(certificates.authority(tmp_path / "other"), tmp_path / "other", "team")
    tls = {
        "tls_cert_file": str(server.certificate),
        "tls_key_file": str(server.key),
        "tls_client_ca_file": str(authority.certificate),
    }
    async with start(**tls) as served:
        known = {"ca_file": authority.certificate}
        await works(served, **known, cert_file=team.certificate, key_file=team.key)
        with pytest.raises(Unavailable):
            await works(served, timeout_s=5, **known)
        with pytest.raises(Unavailable):
            await works(served, timeout_s=5, **known, cert_file=stranger.certificate, key_file=stranger.key)
    assert {record.fields["caller"] for record in caplog.records if hasattr(record, "fields")} == {"team"}


@NEEDS_OPENSSL
async def test_files_that_cannot_serve_are_told(start: Start, tmp_path: Path, authority: Pair) -> None:
    one, two = (certificates.signed(authority, tmp_path, name) for name in ("one", "two"))
    cases: list[tuple[dict[str, str], str]] = [
        ({"tls_cert_file": str(one.certificate)}, "--tls-key-file is missing"),
        ({"tls_client_ca_file": str(one.certificate)}, "--tls-cert-file is missing"),
        (
            {"tls_cert_file": str(one.certificate), "tls_key_file": str(two.key)},
            "two.key is not the key of .*one.pem",
        ),
        ({"tls_cert_file": str(tmp_path / "none"), "tls_key_file": str(two.key)}, "there is no file .*none"),
    ]
    for given, message in cases:
        with pytest.raises(StartError, match=message):
            async with start(**given):
                pass


@pytest.mark.parametrize(("where", "listed"), [("auto", True), ("off", False)])
async def test_reflection_can_be_off(start: Start, where: str, listed: bool) -> None:
    async with start(reflection=where) as served:
        call = served.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        stream = call(iter([b"\x3a\x00"]))
        if listed:
            assert b"siglip.v1.EmbeddingService" in await stream.read()
        else:
            assert await stream.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_strangers_are_refused_before_their_message_is_read(
    start: Start, tokens: Path, workers: dict[str, FakeWorker]
) -> None:
    """Its body never comes; a known caller's has the time of a call."""
    async with start(token_file=str(tokens), max_deadline_s=0.3) as served:
        for token, code in (("nonsense", "UNAUTHENTICATED"), (SECRET, "DEADLINE_EXCEEDED")):
            call = served.channel.stream_unary("/siglip.v1.EmbeddingService/EmbedTexts")(
                metadata=[("authorization", f"Bearer {token}")]
            )
            assert (await asyncio.wait_for(call.code(), 10)).name == code
        call = served.channel.stream_unary("/siglip.v1.EmbeddingService/EmbedTexts")(
            iter(()), metadata=[("authorization", f"Bearer {SECRET}")]
        )
        assert (await call.code()).name == "INVALID_ARGUMENT"
        assert await call.details() == "request: the call has no message"


async def test_one_callers_flood_does_not_keep_others_waiting(
    start: Start, tokens: Path, text_worker: FakeWorker
) -> None:
    """Two hundred and forty patient calls wait when another caller's call comes."""
    async with (
        start(token_file=str(tokens)) as served,
        client_of(served, token=SECRET) as flooding,
        client_of(served, token=OTHER, timeout_s=10) as other,
    ):
        text_worker.pause()
        flood = [asyncio.create_task(flooding.embed_texts([f"flood {n}"], timeout_s=30)) for n in range(240)]
        await until(lambda: served.gateway.parts.admission.rows == 240)
        call = asyncio.create_task(other.embed_texts(["only this"]))
        await until(lambda: served.gateway.parts.admission.rows == 241)
        text_worker.resume()
        await call
        await asyncio.gather(*flood)
    tokenized, _ = served.served.tokenizer.encode_batch(["only this"], served.served.text_length)
    turn = text_worker.rows.index(tokenized[0].astype("<i4").tobytes())
    assert turn <= WINDOW_WHILE_PACE_IS_UNKNOWN + 2 * ROWS_PER_ENTRY["text"]


def hold(admission: Admission, stack: Any, name: str, rows: int) -> bool:
    try:
        stack.enter_context(admission.admit(rows, 1, Caller(name)))
    except Overloaded:
        return False
    return True


async def test_a_flood_leaves_others_their_share() -> None:
    admission = Admission(100, 10_000)
    with ExitStack() as stack:
        taken = sum(hold(admission, stack, "flood", 1) for _ in range(200))
        assert taken == 80  # four fifths
        assert hold(admission, stack, "light", 10)
        assert not hold(admission, stack, "flood", 1)
        more = sum(hold(admission, stack, "second flood", 1) for _ in range(200))
        assert more == 8  # four times the two that are left then
        assert hold(admission, stack, "third", 2)
    assert (admission.rows, admission.bytes) == (0, 0)
    with ExitStack() as stack:
        assert hold(admission, stack, "flood", 1000)  # alone
