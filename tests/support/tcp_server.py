"""A queue server on a TCP port, with options of its own; what it saved outlives a restart."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

import redis

from broker import embedded
from tests.support.valkey import free_port, looking, wait_until

HAS_REDIS = shutil.which("redis-server") is not None


class TcpServer:
    """The embedded Valkey, or the machine's Redis.

    `inside`: the words of a command that runs another, as `ip netns exec NAME`. `url` is for the parts,
    there; `socket_url` for the test, here.
    """

    def __init__(self, name: str, *options: str, host: str = "127.0.0.1", inside: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="siglip-queue-")
        self._port = free_port()
        self.url = f"redis://{host}:{self._port}"
        self.socket_url = f"unix://{self._folder.name}/socket"
        self._command = [*inside, _binary_of(name), "--port", str(self._port), "--bind", host]
        self._command += ["--unixsocket", self.socket_url.removeprefix("unix://")]
        self._command += ["--save", "", "--dir", self._folder.name, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, wait: bool = True) -> None:
        """With these options too; `wait`: until it takes commands."""
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        if wait:
            wait_until(self.answers)

    def answers(self) -> bool:
        """Whether it takes commands."""
        with suppress(redis.RedisError), looking(self.socket_url) as connection:
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
        self._folder.cleanup()


def _binary_of(name: str) -> str:
    found = shutil.which("redis-server") if name == "redis" else str(embedded.server_binary())
    assert found, "ask HAS_REDIS first"
    return found
