"""`siglip doctor`, `top` and `dead-letter` against a real service, whole and broken."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import EmbeddedServer
from broker.keys import Keys
from siglip_cli.main import run
from tests.cli.service import Service, serving, siglip
from tests.gateway.conftest import serving as gateway_serving
from tests.gateway.conftest import settings_for
from tests.gateway.rig import FakeWorker
from tests.support.valkey import looking

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def queue() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(scope="module")
def watched(model: Path, queue: EmbeddedServer) -> Iterator[Service]:
    with serving("--model", model, "--listen", "127.0.0.1:0", "--redis-url", queue.url) as service:
        assert service.address
        yield service


def findings(capsys: Captured, *arguments: object) -> tuple[int, dict[str, tuple[str, str]]]:
    code = run(["doctor", "--json", *map(str, arguments)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {line["what"]: (line["level"], line["text"]) for line in lines}


def test_a_healthy_service(capsys: Captured, watched: Service, queue: EmbeddedServer, model: Path) -> None:
    code, found = findings(capsys, "--model", model, "--redis-url", queue.url, "--address", watched.address)
    assert code == 0
    assert {level for level, _ in found.values()} == {"ok"}
    assert found.keys() >= {"queue", "permissions", "text workers", "vision canary", "device", "model"}


@pytest.mark.parametrize(
    ("broken", "what", "text"),
    [
        (["--redis-url", "redis://127.0.0.1:1"], "queue", "Connection refused"),
        (["--address", "127.0.0.1:1"], "gateway", "nobody serves at 127.0.0.1:1"),
        (["--model", "{tmp_path}"], "model", "lacks config.json"),
        (["--model-name", "other"], "text workers", "none live under the name 'other', but under 'tiny'"),
        (["--model", "checkpoints/shapes", "--model-name", "tiny"], "vision workers", "with these weights"),
    ],
)
def test_five_broken_ones(
    capsys: Captured,
    watched: Service,
    queue: EmbeddedServer,
    model: Path,
    tmp_path: Path,
    broken: list[str],
    what: str,
    text: str,
) -> None:
    right = ["--model", str(model), "--redis-url", queue.url, "--address", watched.address]
    changed = [word.format(tmp_path=tmp_path) for word in broken]
    code, found = findings(capsys, *right, *changed)
    assert code == 1
    assert found[what][0] == "problem" and text in found[what][1]


async def test_a_service_of_one_tower_lacks_no_other(
    capsys: Captured, queue: EmbeddedServer, model: Path
) -> None:
    async with gateway_serving(settings_for(model, queue.url, towers="text")) as served:
        worker = FakeWorker(queue.url, served.served, "text")
        address = f"127.0.0.1:{served.gateway.port}"
        place = ["--model", model, "--redis-url", queue.url, "--address", address]
        code, found = await asyncio.to_thread(findings, capsys, *place)
        worker.stop()
    assert code == 0, found
    assert found["text workers"][0] == "ok"
    assert "vision workers" not in found and "vision canary" not in found


@pytest.mark.parametrize(
    ("access", "text"),
    [
        (["--ca-file", "none.pem"], "cannot use TLS: none.pem: No such file"),
        (["--token", "x"], "the token would travel in clear to queue.example:1"),
    ],
)
def test_a_client_that_cannot_be_set_up(capsys: Captured, access: list[str], text: str) -> None:
    code, found = findings(capsys, "--address", "queue.example:1", *access)
    assert code == 1
    assert found["gateway"][0] == "problem" and found["gateway"][1].startswith(text)


def test_a_worker_that_hangs_fails_its_canary(capsys: Captured, watched: Service) -> None:
    pid = watched.child("--tower vision")
    os.kill(pid, signal.SIGSTOP)
    try:
        code, found = findings(capsys, "--address", watched.address, "--timeout-s", "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 1
    assert found["vision canary"][0] == "problem" and found["text canary"][0] == "ok"


def test_remedies_are_told_to_people(capsys: Captured) -> None:
    assert run(["doctor", "--address", "127.0.0.1:1"]) == 1
    out = capsys.readouterr().out
    assert "-> start it, or correct --address (SIGLIP_ADDRESS)" in out


@pytest.mark.parametrize("command", ["top", "dead-letter list"])
def test_no_url_is_wrong_usage(capsys: Captured, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.delenv("SIGLIP_REDIS_URL", raising=False)
    assert run(command.split()) == 2
    assert "no Redis URL given" in capsys.readouterr().err


def test_other_shards_than_those_that_run(capsys: Captured, watched: Service, queue: EmbeddedServer) -> None:
    place = ["--redis-url", queue.url, "--address", watched.address, "--redis-shards", "3"]
    code, found = findings(capsys, *place)
    assert code == 0
    assert found["tiny shards"] == ("warning", "--redis-shards is 3 here, but this queue has 1")


def test_top_once(capsys: Captured, watched: Service, queue: EmbeddedServer) -> None:
    """Work between two looks is shown as a rate."""
    assert siglip("embed-text", "a", "b", "c", "--address", watched.address).returncode == 0
    assert run(["top", "--every-s", "0.1", "--redis-url", queue.url]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Valkey [\d.]+   memory [\d.]+ of 512 MiB", out)
    assert "tiny   queue " in out and "1 gateway" in out
    assert len(re.findall(r":\d+  cpu float32 +[\d.]+ rows/s", out)) == 2


def test_dead_letters(capsys: Captured, queue: EmbeddedServer) -> None:
    with looking(queue.url) as connection:
        letter = {
            b"h": b"",
            b"reason": b"POISON\x1b[31m",
            b"deliveries": b"4",
            b"row": b"",
            b"entry_id": b"7-0",
        }
        for tower in ("text", "vision"):  # the same id in both
            connection.xadd(Keys("t" * 16).dead_letters(tower), letter, id="7000-1")  # type: ignore[arg-type]
    name = f"text:{'t' * 16}:0:7000-1"
    place = ["--redis-url", queue.url]
    assert run(["dead-letter", "list", *place]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}  1970-01-01 00:00:07Z") and "\x1b" not in out
    assert run(["dead-letter", "show", name, *place]) == 0
    assert "deliveries  4" in capsys.readouterr().out
    assert run(["dead-letter", "show", "1-1", *place]) == 2
    assert "there is no dead letter 1-1" in capsys.readouterr().err
    assert run(["dead-letter", "drop", name, *place]) == 0
    assert run(["dead-letter", "list", *place]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 dropped\nvision:") and name not in out
    with looking(queue.url) as connection:
        connection.xadd(Keys("t" * 16).dead_letters("vision"), letter, id=f"{2**64 - 2}-1")  # type: ignore[arg-type]
    assert run(["dead-letter", "list", *place]) == 0
    assert f"{2**64 - 2}-1" in capsys.readouterr().out
    assert run(["dead-letter", "drop", "all", *place]) == 0
    assert run(["dead-letter", "list", *place]) == 0
    assert capsys.readouterr().out == "2 dropped\n"
