"""What all tests share."""

import os
from collections.abc import Iterator

import pytest

from broker import EmbeddedServer
from tests.support.roles import add_users

# gRPC's C core writes to stderr when a server that a test stops says goodbye to its clients.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServer]:
    """One queue server for all tests that leave it as it is; each uses a tag of its own."""
    with EmbeddedServer() as server:
        add_users(server.url)
        yield server
