"""What all tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import EmbeddedServer
from tests.support.roles import add_users

# gRPC's C core writes to stderr when a server that a test stops says goodbye to its clients.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@pytest.fixture(scope="session")
def queue_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The server that EmbeddedServer starts: Valkey; `make faults` asks for the machine's Redis too."""
    name: str = getattr(request, "param", "valkey")
    binary = shutil.which("redis-server")
    if name == "redis" and not binary:
        pytest.skip("no redis-server on this machine")
    with pytest.MonkeyPatch.context() as patched:
        if name == "redis" and binary:
            patched.setattr("broker.embedded.server_binary", lambda: Path(binary))
        yield name


@pytest.fixture(scope="session")
def embedded(queue_server: str) -> Iterator[EmbeddedServer]:
    """One queue server for all tests that leave it as it is; each uses a tag of its own."""
    with EmbeddedServer() as server:
        add_users(server.url)
        yield server
