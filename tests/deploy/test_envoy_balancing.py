"""Gateways behind Envoy: each gets its part, and one that dies or stops costs no call."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from siglip.v1 import embedding_pb2, embedding_pb2_grpc

from siglip_client import Client, TextItem
from tests.deploy.conftest import TEXTS, Fronted
from tests.faults.fleet import START_TIMEOUT_S, Part
from tests.support.envoy import binary
from tests.support.valkey import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not binary(), reason="no envoy: make deploy-envoy"),
    pytest.mark.timeout(300),
]

CALLERS = 4
REQUEST = embedding_pb2.EmbedTextsRequest(texts=TEXTS)


@pytest.fixture(autouse=True)
def whole_again(fronted: Fronted) -> Iterator[None]:
    """Whatever a test did, the next one finds both gateways."""
    yield
    for part in fronted.fleet.gateways:
        if part.process and part.process.poll() is not None:
            start_again(fronted, part)


@contextmanager
def stub_of(fronted: Fronted) -> Iterator[embedding_pb2_grpc.EmbeddingServiceStub]:
    """A client that never tries again by itself."""
    with grpc.insecure_channel(fronted.envoy.address, [("grpc.enable_retries", 0)]) as channel:
        yield embedding_pb2_grpc.EmbeddingServiceStub(channel)


class Callers:
    """Call after call until they are stopped; the first error of each ends it."""

    def __init__(self, fronted: Fronted, expected: NDArray[np.float32]) -> None:
        self._fronted, self._expected = fronted, expected
        self._stop = threading.Event()
        self.answered = count()
        self.total = 0

    def run(self) -> None:
        with stub_of(self._fronted) as stub:
            while not self._stop.is_set():
                reply = stub.EmbedTexts(REQUEST, timeout=30)
                got = np.stack([np.frombuffer(each.embedding.data, "<f4") for each in reply.results])
                np.testing.assert_allclose(got, self._expected, atol=2e-6)
                self.total = next(self.answered)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def under_load(fronted: Fronted, expected: NDArray[np.float32]) -> Iterator[Callable[[], None]]:
    """What it gives waits for 100 more answers. At the end no call may have failed."""
    callers = Callers(fronted, expected)
    with ThreadPoolExecutor(CALLERS) as pool:
        running = [pool.submit(callers.run) for _ in range(CALLERS)]

        def goes_on() -> None:
            goal = callers.total + 100
            wait_until(lambda: callers.total >= goal or any(each.done() for each in running), 100)

        try:
            goes_on()
            yield goes_on
            goes_on()
        finally:
            callers.stop()
        for each in running:
            each.result()


def part_at(fronted: Fronted, port: int) -> Part:
    return fronted.fleet.gateways[fronted.fleet.ports.index(port)]


def start_again(fronted: Fronted, part: Part) -> None:
    part.start()
    wait_until(fronted.fleet.serves, START_TIMEOUT_S)
    wait_until(lambda: fronted.envoy.healthy() == len(fronted.fleet.ports))


def test_one_connection_reaches_both_gateways(fronted: Fronted) -> None:
    before = fronted.envoy.requests()
    with stub_of(fronted) as stub:
        for _ in range(100):
            stub.EmbedTexts(REQUEST, timeout=30)
    served = [total - before[port] for port, total in fronted.envoy.requests().items()]
    assert sum(served) == 100 and min(served) >= 20, served


def test_a_gateway_is_killed_and_no_call_fails(fronted: Fronted, text_vectors: NDArray[np.float32]) -> None:
    killed, port = fronted.fleet.gateways[0], fronted.fleet.ports[0]
    retries = fronted.envoy.stats()["upstream_rq_retry"]
    with under_load(fronted, text_vectors) as goes_on:
        killed.end(signal.SIGKILL)
        goes_on()
        wait_until(lambda: fronted.envoy.healthy() == 1)
        assert fronted.envoy.stats()["upstream_rq_retry"] > retries, "it was killed without anybody noticing"
        start_again(fronted, killed)
        before = fronted.envoy.requests()[port]
        wait_until(lambda: fronted.envoy.requests()[port] > before, START_TIMEOUT_S)


def test_a_gateway_stops_and_no_call_fails(fronted: Fronted, text_vectors: NDArray[np.float32]) -> None:
    stopped = fronted.fleet.gateways[1]
    with under_load(fronted, text_vectors) as goes_on:
        stopped.end(signal.SIGTERM)
        assert stopped.process and stopped.process.returncode == 0
        goes_on()
        start_again(fronted, stopped)


def test_the_gateway_of_a_stream_is_killed_and_the_stream_goes_on(
    fronted: Fronted, text_vectors: NDArray[np.float32]
) -> None:
    items, got, killed = 4000, dict[object, NDArray[np.float32] | None](), None
    with Client(fronted.envoy.address) as client:
        for result in client.embed_stream(TextItem(each, TEXTS[each % len(TEXTS)]) for each in range(items)):
            assert result.key not in got
            got[result.key] = result.vector
            if killed is None:
                [port] = [port for port, active in fronted.envoy.requests("rq_active").items() if active]
                killed = part_at(fronted, port)
                killed.end(signal.SIGKILL)
    assert killed is not None and len(got) == items
    for each in range(items - len(TEXTS), items):
        np.testing.assert_allclose(got[each], text_vectors[each % len(TEXTS)], atol=2e-6)
