"""Servers that do what real ones rarely do: one for each behaviour."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager

import grpc

from tests.conformance.peculiar import BEHAVIOURS, Peculiar
from tests.conformance.peculiar_streams import STREAMS, PeculiarStreams

NAMES = {*BEHAVIOURS, *STREAMS}


@contextmanager
def serving() -> Iterator[dict[str, tuple[str, Peculiar]]]:
    """Address and server of each behaviour, by its name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(_served(handler)) for name, handler in _handlers()}


def _handlers() -> Iterator[tuple[str, Peculiar]]:
    for name, answer in BEHAVIOURS.items():
        yield name, Peculiar(answer)
    for name, stream in STREAMS.items():
        yield name, PeculiarStreams(stream)


@contextmanager
def _served(handler: Peculiar) -> Iterator[tuple[str, Peculiar]]:
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", handler
    finally:
        server.stop(None).wait()
