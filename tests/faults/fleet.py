"""Processes of one deployment that can be killed, stopped and started again: queue, gateways, workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from broker import EmbeddedServer
from siglip_cli.probe import serves
from tests.support.valkey import free_port, left_overs, server_pid, wait_until

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "checkpoints" / "shapes"
START_TIMEOUT_S = 120.0


# What is sent again and again has to go all the way each time.
NO_CACHE = {"SIGLIP_CACHE_BYTES": "0"}


@dataclass
class Part:
    """One process of `siglip`, under its name."""

    name: str
    arguments: list[str]
    environ: dict[str, str]
    log: Path
    inside: list[str] = field(default_factory=list)
    """Words of a command that runs it somewhere else."""
    program: str = "siglip_cli"
    down: bool = False
    """Ended by us; else its end is its own."""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.down = False
        command = [*self.inside, sys.executable, "-m", self.program, *self.arguments, "--end-with-stdin"]
        with self.log.open("ab") as log:
            # Its standard input is a pipe of ours, so that it ends with us.
            self.process = subprocess.Popen(
                command, env=os.environ | NO_CACHE | self.environ, cwd=ROOT, stdin=subprocess.PIPE, stderr=log
            )

    def send(self, number: int) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: int, timeout_s: float = 40.0) -> None:
        """Sends the signal and waits for the end."""
        self.down = True
        self.send(number)
        self.wait(timeout_s)

    def wait(self, timeout_s: float = 40.0) -> None:
        """Until it has ended."""
        if self.process:
            self.process.wait(timeout_s)
            self.process.communicate()


@dataclass
class Fleet:
    checkpoint: Path
    folder: Path
    queue: EmbeddedServer
    gateways: list[Part] = field(default_factory=list)
    workers: list[Part] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def start(
        self,
        gateways: int = 2,
        workers: int = 2,
        environ_of: Callable[[str], dict[str, str]] | None = None,
        worker_program: str = "siglip_cli",
    ) -> None:
        """All of them, and waits until they serve; `environ_of` may add to a part's environment."""
        shared = {"SIGLIP_REDIS_URL": self.queue.url, "SIGLIP_MODEL": str(self.checkpoint)}
        for number in range(gateways):
            self.ports.append(free_port())
            listen = ["--listen", f"127.0.0.1:{self.ports[-1]}", "--decode-processes", "1"]
            self._add(self.gateways, f"gateway-{number}", ["gateway", *listen], shared)
        for tower in ("text", "vision"):
            for number in range(workers):
                arguments = ["worker", "--tower", tower, "--threads", "1", "--max-batch-rows", "16"]
                self._add(self.workers, f"{tower}-{number}", arguments, shared)
        for part in self.workers:
            part.program = worker_program
        for part in self.parts:
            part.environ |= environ_of(part.name) if environ_of else {}
            part.start()
        self.wait()

    def wait(self) -> None:
        """Until every worker lives and every gateway serves."""
        wait_until(lambda: self.live_workers() == len(self.workers), START_TIMEOUT_S)
        wait_until(self.serves, START_TIMEOUT_S)

    def serves(self) -> bool:
        """Whether every gateway does."""
        return all(serves(f"127.0.0.1:{port}") for port in self.ports)

    def _add(self, to: list[Part], name: str, arguments: list[str], environ: dict[str, str]) -> None:
        to.append(Part(name, arguments, dict(environ), self.folder / f"{name}.log"))

    @property
    def parts(self) -> list[Part]:
        return [*self.gateways, *self.workers]

    @property
    def address(self) -> str:
        """All gateways, used in turn."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def kill_queue(self) -> None:
        """SIGKILL, and an empty server in its place."""
        os.kill(server_pid(self.queue.url), signal.SIGKILL)
        wait_until(lambda: not self.queue.alive())
        self.queue.restart()

    def flush_queue(self) -> None:
        with redis.Redis.from_url(self.queue.url) as connection:
            connection.flushall()

    def revive(self) -> int:
        """Starts the parts that ended by themselves; how many of these were killed."""
        ended = [
            part for part in self.parts if part.process and not part.down and part.process.poll() is not None
        ]
        killed = sum(1 for part in ended if part.process and part.process.returncode < 0)
        for part in ended:
            part.start()
        return killed

    def live_workers(self) -> int:
        """Of all towers, by their leases."""
        with redis.Redis.from_url(self.queue.url) as connection:
            return sum(1 for _ in connection.scan_iter("*:lease:*"))

    def left_overs(self) -> dict[str, Any]:
        """What is left in the queue of work; leases and the gateways' reply streams live on."""
        found = left_overs(self.queue.url, "*")
        return {key: value for key, value in found.items() if isinstance(value, tuple)}

    def drain(self) -> None:
        """SIGTERM to all at once; each must end by itself, and well."""
        for part in self.parts:
            part.send(signal.SIGTERM)
        for part in self.parts:
            part.wait()
            assert part.process and part.process.returncode == 0, part.log.read_text()[-2000:]

    def stop(self) -> None:
        for part in self.parts:
            part.send(signal.SIGCONT)
            part.send(signal.SIGKILL)
        for part in self.parts:
            if part.process:
                part.process.communicate()


@contextmanager
def running(queue: EmbeddedServer, folder: Path, **options: Any) -> Iterator[Fleet]:
    """A fleet of the demo checkpoint, drained in the end; `options` are those of its start."""
    fleet = Fleet(CHECKPOINT, folder, queue)
    try:
        fleet.start(**options)
        yield fleet
        fleet.drain()
    finally:
        fleet.stop()
