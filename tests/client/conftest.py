import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from siglip_client import AsyncClient, Client
from tests.client.gateway_process import gateway_process
from tests.client.stand_in import Connect, StandIn, serving


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def address(service: StandIn) -> Iterator[str]:
    with serving(service) as found:
        yield found


@pytest.fixture(scope="session")
def gateway_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as found:
        yield found


class Awaited:
    """An AsyncClient whose calls wait, so that one test serves both clients."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self.client = client

    def embed_stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        results = self.client.embed_stream(*args, **kwargs)

        async def following() -> Any:
            return await anext(results, None)

        try:
            while result := self._runner.run(following()):
                yield result
        finally:
            self._runner.run(results.aclose())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.client, name)
        return lambda *args, **kwargs: self._runner.run(call(*args, **kwargs))


@pytest.fixture(params=["sync", "asyncio"])
def connect(request: pytest.FixtureRequest, address: str) -> Iterator[Connect]:
    """connect(**options) -> a client of the stand-in, closed in the end."""
    opened: list[Any] = []
    with asyncio.Runner() as runner:

        async def make(**options: Any) -> AsyncClient:
            return AsyncClient(options.pop("address", address), **options)

        def open_client(**options: Any) -> Any:
            if request.param == "sync":
                opened.append(Client(options.pop("address", address), **options))
            else:
                opened.append(Awaited(runner, runner.run(make(**options))))
            return opened[-1]

        yield open_client
        for client in opened:
            client.close()


@pytest.fixture
def client(connect: Connect) -> Any:
    return connect()
