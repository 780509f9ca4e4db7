"""What the gateway and its decoding processes say to each other."""

import socket
from dataclasses import dataclass

PIXELS, REFUSED, FAILED = range(3)  # kinds of answers
ANSWER_BYTES = 9  # kind and length
READY = b"!"  # said once, before the first picture


@dataclass(frozen=True)
class DecoderSettings:
    size: int
    """Side of the picture that the model takes, in pixels."""
    resample: int
    max_bytes: int
    max_pixels: int
    max_memory_bytes: int
    """That one picture may take."""


def receive(connection: socket.socket, count: int) -> bytes:
    """`count` bytes; fewer, down to none, when the other end has gone. Raises TimeoutError."""
    parts = []
    while count and (part := connection.recv(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
