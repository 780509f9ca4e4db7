"""The queue's own fixtures, and a server with what a fault needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.conftest import connect, nothing_is_left, own_server, tag
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.tcp_server import TcpServer
from tests.support.valkey import left_overs

__all__ = ["connect", "nothing_is_left", "own_server", "tag"]


@pytest.fixture
def tcp_server(queue_server: str, tag: str) -> Iterator[TcpServer]:
    """One that DEBUG can stall and that may load slowly; in the end the queue must be empty."""
    with TcpServer(queue_server, "--enable-debug-command", "yes") as server:
        yield server
        assert left_overs(server.url, tag) == {}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
