"""Queue, gateway and workers on hosts of their own, whose cables are pulled; and a slow line.

The hosts are network namespaces. Gateway and client share a unix socket, which no cable touches.
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from siglip_cli.probe import serves
from tests.faults.fleet import CHECKPOINT, START_TIMEOUT_S, Part
from tests.faults.load import Vectors, load, right_answers, under_way
from tests.support.hosts import Hosts, hosts, why_not
from tests.support.tcp_server import TcpServer
from tests.support.valkey import left_overs, wait_until

pytestmark = [pytest.mark.fault(9), pytest.mark.slow]
# Longer than sockets wait, shorter than what ends calls.
CUT_S = 4.0
# What a call may end with while a cable is pulled.
ALLOWED = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


@dataclass
class Apart:
    hosts: Hosts
    queue: TcpServer
    gateway: Part
    text: Part
    vision: Part
    address: str

    def left(self) -> dict[str, object]:
        """Of work; replies and leases live on."""
        found = left_overs(self.queue.socket_url, "*")
        return {key: value for key, value in found.items() if isinstance(value, tuple)}

    def lose_worker_host(self) -> None:
        """Nobody says goodbye: the server still counts its connections. Another host takes over."""
        self.hosts.cut("workers")
        for part in (self.text, self.vision):
            part.end(signal.SIGKILL)
            part.inside = self.hosts.inside("spare")
            part.start()

    def lose_queue_host(self) -> None:
        """And a new one, empty, has its address."""
        self.hosts.cut("queue")
        self.queue.kill()
        time.sleep(CUT_S)
        self.queue.start()
        self.hosts.mend("queue")


STRIKES: dict[str, Callable[[Apart], None]] = {
    "gateway cut off": lambda parts: cut(parts.hosts, "gateway"),
    "workers cut off": lambda parts: cut(parts.hosts, "workers"),
    "queue cut off": lambda parts: cut(parts.hosts, "queue"),
    "gateway does not hear the queue": lambda parts: silence(parts.hosts, "queue", "gateway"),
    "queue does not hear the gateway": lambda parts: silence(parts.hosts, "gateway", "queue"),
    "workers do not hear the queue": lambda parts: silence(parts.hosts, "queue", "workers"),
    "queue does not hear the workers": lambda parts: silence(parts.hosts, "workers", "queue"),
    "host of the queue lost": Apart.lose_queue_host,
    # The last one: the workers have moved then.
    "host of the workers lost": Apart.lose_worker_host,
}


def cut(network: Hosts, name: str) -> None:
    network.cut(name)
    time.sleep(CUT_S)
    network.mend(name)


def silence(network: Hosts, name: str, to: str) -> None:
    network.silence(name, to)
    time.sleep(CUT_S)
    network.unsilence(name, to)


@contextmanager
def on_hosts(network: Hosts, name: str, folder: Path) -> Iterator[Apart]:
    open_to_all = ("--protected-mode", "no")
    with TcpServer(
        name, *open_to_all, host=network.address("queue"), inside=network.inside("queue")
    ) as queue:
        environ = {"SIGLIP_REDIS_URL": queue.url, "SIGLIP_MODEL": str(CHECKPOINT)}

        def part(name: str, host: str, *arguments: str) -> Part:
            return Part(name, list(arguments), environ, folder / f"{name}.log", network.inside(host))

        with tempfile.TemporaryDirectory(prefix="siglip-gateway-") as place:
            address = f"unix:{place}/socket"
            gateway = part("gateway", "gateway", "gateway", "--listen", address, "--decode-processes", "1")
            text, vision = (
                part(tower, "workers", "worker", "--tower", tower, "--threads", "1", "--max-batch-rows", "16")
                for tower in ("text", "vision")
            )
            try:
                for each in (gateway, text, vision):
                    each.start()
                wait_until(partial(serves, address), START_TIMEOUT_S)
                yield Apart(network, queue, gateway, text, vision, address)
            finally:
                for each in (gateway, text, vision):
                    each.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def apart(queue_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    if reason := why_not():
        pytest.skip(reason)
    names = ("queue", "gateway", "workers", "spare")
    with hosts(*names) as network, on_hosts(network, queue_server, tmp_path_factory.mktemp("apart")) as parts:
        yield parts


@pytest.fixture(scope="module")
def answers() -> tuple[Vectors, Vectors]:
    return right_answers(CHECKPOINT)


@pytest.mark.parametrize("strike", STRIKES)
def test_pulled_cables(apart: Apart, answers: tuple[Vectors, Vectors], strike: str) -> None:
    with load(apart.address, answers, callers=3, seed=strike, hopeless=0) as book:
        under_way(book)
        STRIKES[strike](apart)
        under_way(book)
    assert book.bad == 0 and set(book.errors) <= ALLOWED, book
    wait_until(lambda: not apart.left())
