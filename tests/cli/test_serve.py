"""`siglip serve` from outside: what it starts, restarts, refuses and leaves behind."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from siglip_client import Client, SiglipError
from tests.cli.listening import listening_addresses
from tests.cli.processes import alive, descendants, killed_afterwards, wait_for
from tests.cli.service import Service, clean_environ, serving, siglip
from tests.support.hub import COMMIT, running_hub


def classify(service: Service, image: Path) -> str:
    done = siglip("classify", image, "--label", "a cat", "--address", service.address)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image(tmp_path: Path, png: bytes) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(png)
    return path


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary folder is `tmp_path / "t"`."""
    (tmp_path / "t").mkdir()
    yield clean_environ(TMPDIR=str(tmp_path / "t"))


def test_serve_classify_stop_leaves_nothing(
    model: Path, image: Path, tmp_path: Path, temporary: dict[str, str]
) -> None:
    with serving("--model", model, "--listen", "127.0.0.1:0", environ=temporary) as service:
        assert service.address in "".join(service.out[1:]), "how to call it is printed"
        assert list((tmp_path / "t").iterdir()), "the private folder is not where it should be"
        assert "a cat" in classify(service, image)
        assert service.end(signal.SIGTERM) == 0
    assert list((tmp_path / "t").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png", "t"]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens where")
def test_nothing_listens_beyond_loopback(service: Service) -> None:
    assert service.address
    assert listening_addresses({service.pid, *descendants(service.pid)}) == {"127.0.0.1"}


@pytest.mark.fault(24)
def test_killed_serve_leaves_no_orphan_and_the_next_start_no_file(
    model: Path, tmp_path: Path, temporary: dict[str, str]
) -> None:
    arguments = ("--model", model, "--listen", "127.0.0.1:0", "--towers", "text")
    with serving(*arguments, environ=temporary) as service:
        assert service.address
        family = descendants(service.pid)
        assert len(family) >= 3, family
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
    assert list((tmp_path / "t").iterdir()), "nothing to sweep: this tests nothing"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert siglip("serve", "--model", model, "--listen", listen, environ=temporary).returncode == 2
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.slow
def test_killed_processes_are_started_again(model: Path, image: Path, tmp_path: Path) -> None:
    arguments = ("--model", model, "--listen", "127.0.0.1:0", "--run-dir", tmp_path / "run")
    with serving(*arguments) as service:
        address = service.address
        for part in (
            "worker --end-with-stdin --tower vision",
            "siglip_cli gateway",
            "valkey-server unixsocket:",
        ):
            before = service.child(part)
            os.kill(before, signal.SIGKILL)
            wait_for(partial(started_again, service, part, before))
            wait_for(partial(answers, address, image), 30)
        assert service.end(signal.SIGINT) == 0
    assert not (tmp_path / "run").exists()


def answers(address: str, image: Path) -> bool:
    with Client(address) as client:
        try:
            return bool(client.classify([image], ["a cat"], timeout_s=5)[0].labels)
        except SiglipError:
            return False


def started_again(service: Service, part: str, before: int) -> bool:
    found = [pid for pid, line in descendants(service.pid).items() if part in line]
    return bool(found) and before not in found


def test_port_in_use(service: Service, model: Path, tmp_path: Path) -> None:
    """Another service answers there, and is healthy: its address must not be announced as ours."""
    began = time.monotonic()
    done = siglip(
        *("serve", "--model", model, "--listen", service.address, "--log-level", "error"),
        *("--run-dir", tmp_path / "run"),
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert service.address in line
    assert "in use" in line
    assert done.stdout == ""
    assert time.monotonic() - began < 30
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "no/such/folder/here"], "no/such/folder/here"),
        ([], "--model is required"),
        (["--model", "{model}", "--vision-workers", "0"], "--vision-workers is 0"),
        (["--model", "{model}", "--text-workers", "x"], "--text-workers is 'x'"),
        (["--model", "{model}", "--listen", "nonsense"], "cannot listen on nonsense"),
        (["--model", "{model}", "--redis-url", "nonsense"], "cannot use the Redis URL (unreadable)"),
        (["--model", "{model}", "--redis-url", "redis://:secret@127.0.0.1:1"], "127.0.0.1:1"),
        (["--model", "{model}", "--run-dir", "{file}"], "--run-dir"),
        (["--model", "{empty}"], "config.json"),
    ],
)
def test_refused_in_one_line(model: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    filled = [
        argument.format(model=model, file=tmp_path / "file", empty=tmp_path / "empty")
        for argument in arguments
    ]
    environ = clean_environ(HF_HUB_OFFLINE="1")
    done = siglip("serve", "--listen", "127.0.0.1:0", "--log-level", "error", *filled, environ=environ)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_second_signal_is_quick(model: Path, tmp_path: Path) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--run-dir", tmp_path / "run", "--drain-timeout-s", "600")
    with serving("--model", model, *arguments) as service:
        wait_for(lambda: [line for line in descendants(service.pid).values() if "--tower vision" in line])
        family = descendants(service.pid)
        # A gateway that cannot stop by itself, as it does not run at all.
        os.kill(service.child("siglip_cli gateway"), signal.SIGSTOP)
        with killed_afterwards({service.pid, *family}):
            os.kill(service.pid, signal.SIGINT)
            wait_for(lambda: "stopping" in "".join(service.err))
            assert service.process.poll() is None
            os.kill(service.pid, signal.SIGINT)
            assert service.process.wait(20) == 3
            wait_for(lambda: not [pid for pid in family if alive(pid)], 10)
        service.join()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [["gateway"], ["worker", "--tower", "text"]])
def test_parts_alone_need_a_queue(model: Path, command: list[str]) -> None:
    done = siglip(*command, "--model", model)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "--redis-url" in line
    assert "siglip serve" in line


@pytest.mark.slow
def test_model_of_the_hub(model: Path, tmp_path: Path) -> None:
    with running_hub(owner__tiny=model) as hub:
        environ = clean_environ(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "cache"))
        arguments = ("--model", "owner/tiny", "--listen", "127.0.0.1:0", "--towers", "text")
        with serving(*arguments, environ=environ) as service:
            described = json.loads(siglip("info", "--json", "--address", service.address).stdout)
            asked_by_one_download = len(hub.requests)
    assert (described["name"], described["revision"]) == ("owner/tiny", COMMIT)
    assert len(hub.requests) == asked_by_one_download
    assert len(hub.requests) == len(set(hub.requests)), "a child asked the hub again"


def test_passwords_are_on_no_command_line(model: Path, tmp_path: Path) -> None:
    url = "redis://user:hunter2@127.0.0.1:1"
    service = Service(
        "--model", model, "--listen", "127.0.0.1:0", environ=clean_environ(SIGLIP_REDIS_URL=url)
    )
    lines: set[str] = set()
    while service.process.poll() is None:
        lines |= set(descendants(service.pid).values())
        time.sleep(0.02)
    service.join()
    assert any("siglip_cli gateway" in line for line in lines)
    assert not any("hunter2" in line for line in [*lines, *service.err, *service.out])
