"""A decoding process that dies with one kind of picture, as a defect of a decoder would make it."""

import os
from typing import Any

from siglip_jobs import decoder

DEADLY = b"deadly"
serve_well = decoder.serve


class _Watched:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.send_bytes = connection.send_bytes

    def recv_bytes(self) -> bytes:
        image: bytes = self._connection.recv_bytes()
        if image.startswith(DEADLY):
            os.abort()
        return image


def serve(connection: Any, *settings: int) -> None:
    serve_well(_Watched(connection), *settings)  # type: ignore[arg-type]
