"""embed_stream against a real gateway process that is told to stop, killed and started again."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from siglip_client import Client, ImageItem, StreamItem, TextItem
from tests.client.gateway_process import GatewayProcess, mortal_gateway
from tests.client.stand_in import Connect
from tests.gateway.rig import picture


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with mortal_gateway(tmp_path_factory.mktemp("mortal")) as found:
        yield found


@pytest.fixture
def address(gateway: GatewayProcess) -> str:
    return gateway.address


WORDS = [f"text {i}" for i in range(2000)]
PICTURES = [picture(i) for i in range(40)]


def items(at: dict[int, Callable[[], None]]) -> Iterator[StreamItem]:
    """Texts and pictures in turn; something happens before some of them."""
    for i, text in enumerate(WORDS):
        if i in at:
            at[i]()
        yield TextItem(("text", i), text)
        if i % 50 == 0:
            yield ImageItem(("image", i // 50), PICTURES[i // 50])


def check(results: list[Any], address: str) -> None:
    found = {result.key: result.vector for result in results if result.error is None}
    assert len(results) == len(found) == 2040
    with Client(address) as client:
        texts, images = client.embed_texts(WORDS).vectors, client.embed_images(PICTURES).vectors
    np.testing.assert_array_equal([found["text", i] for i in range(2000)], texts)
    np.testing.assert_array_equal([found["image", i] for i in range(40)], images)


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [False, True])
def test_a_stream_outlives_its_gateways(connect: Connect, gateway: GatewayProcess, ordered: bool) -> None:
    """Killed once and told to stop once in the middle; one result for each item, equal to the unary ones."""
    later: list[threading.Timer] = []

    def again_after(number: int) -> Callable[[], None]:
        def happens() -> None:
            gateway.end(number)
            later.append(threading.Timer(0.2, gateway.start))
            later[-1].start()

        return happens

    def wait() -> None:
        later[-1].join()

    at = {600: again_after(signal.SIGKILL), 900: wait, 1400: again_after(signal.SIGTERM)}
    results = list(connect(connections=2).embed_stream(items(at), ordered=ordered))
    for timer in later:
        timer.join()
    check(results, gateway.address)
    if ordered:
        assert [result.key for result in results] == [item.key for item in items({})]
