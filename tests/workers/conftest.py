from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import EmbeddedServer
from tests.support.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def valkey(queue_server: str) -> Iterator[EmbeddedServer]:
    """A queue of the test's own: nothing is left in it from another test."""
    with EmbeddedServer() as server:
        yield server
