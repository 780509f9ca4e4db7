"""One server of several that tests start: it can be killed, stopped and started again at its address."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from broker import guard
from broker.embedded import server_binary
from tests.support.valkey import client, free_port, wait_until


class Node:
    """A Valkey on the loopback, without persistence. Ends with this process, however that ends."""

    def __init__(self, folder: Path, *arguments: str, sentinel: str | None = None) -> None:
        self.port = free_port()
        self.pid = 0
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self._arguments = [*arguments] if sentinel is None else [self._sentinel_file(sentinel), "--sentinel"]
        self._guard: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Empty, but in a cluster still known as who it was."""
        options = [] if "--sentinel" in self._arguments else [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0",
        ]  # fmt: skip
        (gone := self.folder / "gone").mkdir(exist_ok=True)
        shim = [sys.executable, "-I", "-S", guard.__file__, str(gone), str(server_binary())]
        with (self.folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                [*shim, *self._arguments, *options], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        wait_until(self.answers, 10)
        self.pid = int(self.ask("INFO", "server")["process_id"])

    def ask(self, *command: Any) -> Any:
        """One command, on a connection of its own."""
        connection = client(f"redis://{self.address}?socket_timeout=0.5")
        try:
            return connection.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            connection.close()

    def role(self) -> str:
        """master or slave; empty while it does not say."""
        try:
            return str(self.ask("ROLE")[0].decode())
        except redis.RedisError:
            return ""

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def signal(self, number: int) -> None:
        """To the server itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._end_guard()

    def stop(self) -> None:
        """SIGTERM; twice is fine."""
        self._end_guard()

    def _end_guard(self) -> None:
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _sentinel_file(self, watched: str) -> str:
        """A Sentinel keeps what it learns in its configuration."""
        lines = [f"port {self.port}", "bind 127.0.0.1", "protected-mode no", f"dir {self.folder}", watched]
        (file := self.folder / "sentinel.conf").write_text("\n".join([*lines, ""]))
        return str(file)
