"""A queue server on a TCP port, with options of its own; what it saved in its folder outlives a restart."""

import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import redis

from broker import embedded
from tests.support.valkey import looking, wait_until

HAS_REDIS = shutil.which("redis-server") is not None


def binary_of(name: str) -> str:
    """Of the embedded Valkey, or of the machine's Redis."""
    found = shutil.which("redis-server") if name == "redis" else str(embedded.server_binary())
    assert found, "ask HAS_REDIS first"
    return found


class TcpServer:
    """`inside`: the words of a command that runs another, as `ip netns exec NAME`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *options: str,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        self.host, self.port = host, free_port()
        self._command = [*inside, binary_of(name), "--port", str(self.port), "--bind", host]
        self._command += ["--save", "", "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def start(self, *options: str, wait: bool = True) -> None:
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        if wait:
            wait_until(self.answers)

    def answers(self) -> bool:
        """Whether it takes commands."""
        with suppress(redis.RedisError), looking(self.url) as connection:
            return bool(connection.ping())
        return False

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "TcpServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
