"""Real queue servers for tests, and a look into them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from broker import EmbeddedServer


def client(url: str) -> redis.Redis:
    """For looking; the product's own connections are in `broker`."""
    return redis.Redis.from_url(url, protocol=2)


@contextmanager
def looking(url: str) -> Iterator[redis.Redis]:
    """A client that is closed at the end."""
    connection = client(url)
    try:
        yield connection
    finally:
        connection.close()


def server_pid(url: str) -> int:
    """Process id of the server itself."""
    with looking(url) as connection:
        return int(connection.info("server")["process_id"])


def kill_server(server: EmbeddedServer) -> None:
    """SIGKILL, and waits until it is gone."""
    os.kill(server_pid(server.url), signal.SIGKILL)
    wait_until(lambda: not server.alive())


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Polls; fails when the condition does not become true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true after {timeout_s} s"
        time.sleep(0.01)


def left_overs(url: str, tag: str) -> dict[str, object]:
    """What a model's keys still hold; empty request streams are no left-overs."""
    found: dict[str, object] = {}
    with looking(url) as connection:
        for key in connection.scan_iter(match=f"{{siglip:{tag}:*"):
            name = key.decode()
            if ":requests:" not in name:
                found[name] = connection.type(key)
                continue
            pending = connection.xpending(key, "workers")["pending"] if connection.xinfo_groups(key) else 0
            if connection.xlen(key) or pending:
                found[name] = (connection.xlen(key), pending)
    return found


@contextmanager
def debian_redis(folder: Path, *arguments: str, tls: bool = False, port: int = 0) -> Iterator[str]:
    """URL of the machine's own redis-server, without persistence, on the loopback; port 0: a free one.

    With `tls` it speaks nothing else; the files for it are among the arguments.
    """
    port = port or free_port()
    binary = shutil.which("redis-server")
    assert binary, "ask `shutil.which` first"
    ports = ["--port", "0", "--tls-port", str(port)] if tls else ["--port", str(port)]
    options = [*ports, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *arguments]
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(port, tls))
        yield url
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """Of the loopback; somebody else may take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, tls: bool) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return tls or bool(connection.recv(16))
    except OSError:
        return False
