"""What all tests share."""

from collections.abc import Iterator

import pytest

from broker import EmbeddedServer


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServer]:
    """One queue server for all tests that leave it as it is; each uses a tag of its own."""
    with EmbeddedServer() as server:
        yield server
