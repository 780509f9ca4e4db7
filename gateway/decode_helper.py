"""A process that decodes one picture at a time for the gateway, so that a decoder that crashes, hangs or
eats memory takes only itself along.

It reads a length and that many bytes, and answers a kind, a length and that many bytes: pixels, or why there
are none. It ends when the gateway does. Never imported by the gateway.
"""

import ctypes
import json
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from gateway.decoding import FAILED, PIXELS, READY, REFUSED, DecoderSettings, receive
from gateway.memory import return_freed_memory
from gateway.quiet import silence_libtiff
from siglip_model.image_processing import ImageError, ImageLimits, decode

PR_SET_PDEATHSIG = 1


def main(fd: int, settings: DecoderSettings) -> None:
    die_with_the_gateway()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the gateway decides
    return_freed_memory()
    silence_libtiff()
    limit_memory(settings.max_memory_bytes)
    limits = ImageLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
    # A gateway that stops may leave unread what was answered: no error of this process.
    with suppress(ConnectionError), socket.socket(fileno=fd) as gateway:
        gateway.sendall(READY)
        while length := receive(gateway, 8):
            kind, answer = answer_to(receive(gateway, *struct.unpack("<Q", length)), limits, settings)
            gateway.sendall(struct.pack("<BQ", kind, len(answer)))
            gateway.sendall(answer)


def die_with_the_gateway() -> None:
    """Even while a decoder loops. Elsewhere than on Linux it ends when it next reads or writes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(more_bytes: int) -> None:
    """`more_bytes` beyond what the process has now: a picture that wants more fails with MemoryError."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # only Linux bounds address space
        return
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, now + more_bytes))


def answer_to(image: bytes, limits: ImageLimits, settings: DecoderSettings) -> tuple[int, bytes]:
    try:
        return PIXELS, decode(image, limits, (settings.size, settings.size), settings.resample).tobytes()
    except ImageError as error:
        return REFUSED, json.dumps([error.reason, error.message]).encode()
    except MemoryError:
        return FAILED, f"decoding needs more than {settings.max_memory_bytes} bytes".encode()
    except Exception as error:
        return FAILED, f"{type(error).__name__}".encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), DecoderSettings(**json.loads(sys.argv[2])))
