"""A process that decodes and resizes pictures for a job; a decoder that crashes takes only itself along."""

import signal
from multiprocessing.connection import Connection

from siglip_model.image_processing import ImageError, ImageLimits, decode

PIXELS, REFUSED, FAILED = b"P", b"R", b"F"
SEPARATOR = "\0"


def serve(connection: Connection, size: int, resample: int, max_bytes: int, max_pixels: int) -> None:
    """Answers one picture at a time, until the other end has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the job decides
    limits = ImageLimits(max_bytes=max_bytes, max_pixels=max_pixels)
    try:
        while True:
            connection.send_bytes(_answer(connection.recv_bytes(), limits, size, resample))
    except (EOFError, OSError):
        return


def _answer(image: bytes, limits: ImageLimits, size: int, resample: int) -> bytes:
    try:
        return PIXELS + decode(image, limits, (size, size), resample).tobytes()
    except ImageError as error:
        return REFUSED + f"{error.reason}{SEPARATOR}{error.message}".encode(errors="replace")
    except MemoryError:
        return FAILED + b"decoding needs more memory than there is"
    except Exception as error:
        return FAILED + type(error).__name__.encode()
