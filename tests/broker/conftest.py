"""Every test gets a model tag of its own, and must leave nothing under it."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from broker import EmbeddedServer, GatewayLimits, connect_gateway
from siglip_settings import RedisSettings
from tests.support.queue_worker import FINGERPRINT
from tests.support.roles import as_role
from tests.support.valkey import left_overs, wait_until

# GatewayBroker, or with several shards another GatewayEnd.
Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def tag() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def own_server(queue_server: str) -> Iterator[EmbeddedServer]:
    """For tests that flush, kill or configure."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Streams empty, nothing pending, no key but the request streams."""
    asked = set(request.fixturenames)
    # Asked for now, so that they still run when this looks.
    servers = [request.getfixturevalue(name) for name in sorted({"embedded", "own_server"} & asked)]
    tag = request.getfixturevalue("tag") if "tag" in asked else ""
    yield
    for server in servers:
        with contextlib.suppress(AssertionError):
            # Leases of killed workers need a moment to expire.
            wait_until(lambda url=server.url: not left_overs(url, tag or "*"), 3.0)
        assert left_overs(server.url, tag or "*") == {}


@pytest.fixture
async def connect(tag: str, nothing_is_left: None) -> AsyncIterator[Connect]:
    """Makes gateway ends that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(server: EmbeddedServer | str | RedisSettings, **limits: float) -> Any:
            url = server.url if isinstance(server, EmbeddedServer) else server
            gateway = await connect_gateway(
                RedisSettings(redis_url=as_role(url, "gateway")) if isinstance(url, str) else url,
                tag=tag,
                fingerprint=FINGERPRINT,
                limits=GatewayLimits(**{"check_every_s": 0.05, **limits}),
            )
            stack.push_async_callback(gateway.close)
            return gateway

        yield make
