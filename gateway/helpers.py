"""The decoding processes as the gateway sees them: one for each decoding thread, replaced when it is lost."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue

from gateway.decoding import ANSWER_BYTES, FAILED, REFUSED, DecoderSettings, receive
from gateway.errors import StartError
from siglip_model.image_processing import ImageError

log = logging.getLogger(__name__)

# -P: a folder named gateway where the user happens to stand must not shadow ours.
_COMMAND = [sys.executable, "-P", "-m", "gateway.decode_helper"]
# Threads of number libraries would only take address space.
_ENVIRON = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

TRIES = 2


class DecoderFailed(Exception):
    """No pixels, through no fault that the picture is known to have. `reason` is stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Crashed(Exception):
    pass


@dataclass
class Helper:
    process: "subprocess.Popen[bytes]"
    connection: socket.socket

    @classmethod
    def start(cls, settings: DecoderSettings) -> "Helper":
        """Raises OSError. Nothing runs between fork and exec, which keeps gRPC's threads out of it."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*_COMMAND, str(theirs.fileno()), json.dumps(asdict(settings))]
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=os.environ | _ENVIRON
            )
        return cls(process, ours)

    def decode(self, image: bytes, timeout_s: float) -> bytes:
        """Raises ImageError, DecoderFailed, _Crashed, TimeoutError."""
        end_s = time.monotonic() + timeout_s
        try:
            self.connection.settimeout(timeout_s)
            self.connection.sendall(struct.pack("<Q", len(image)))
            self.connection.sendall(image)
            head = self._receive(ANSWER_BYTES, end_s)
            kind, length = struct.unpack("<BQ", head)
            answer = self._receive(length, end_s)
        except TimeoutError:
            raise
        except OSError as error:
            raise _Crashed from error
        if kind == REFUSED:
            raise ImageError(*json.loads(answer))
        if kind == FAILED:
            raise DecoderFailed("IMAGE_DECODER_FAILED", f"the decoder failed: {answer.decode()}")
        return answer

    def _receive(self, count: int, end_s: float) -> bytes:
        self.connection.settimeout(max(0.001, end_s - time.monotonic()))
        data = receive(self.connection, count)
        if len(data) < count:
            raise _Crashed
        return data

    def kill(self) -> None:
        """Whatever it is doing."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Helpers:
    """Decodes like a function, from any thread; at most `count` at a time are ever in work."""

    def __init__(self, settings: DecoderSettings, count: int, timeout_s: float) -> None:
        """Raises StartError."""
        self._settings, self._timeout_s = settings, timeout_s
        self._free: SimpleQueue[Helper | None] = SimpleQueue()
        try:
            for _ in range(count):
                self._free.put(Helper.start(settings))
        except OSError as error:
            raise StartError(f"cannot start {count} decoding processes: {error.strerror}") from error

    def __call__(self, image: bytes) -> bytes:
        """One row for the vision tower. Raises ImageError, DecoderFailed.

        A picture that its process died with is tried once more: the process may have been killed for
        another reason.
        """
        helper = self._free.get()
        try:
            for _ in range(TRIES):
                helper = helper or Helper.start(self._settings)
                try:
                    return helper.decode(image, self._timeout_s)
                except _Crashed:
                    log.error("a decoding process died with an image of %d bytes", len(image))
                    helper.kill()
                    helper = None
                except TimeoutError:
                    helper.kill()
                    helper = None
                    message = f"not decoded within {self._timeout_s:g} s (max_decode_s)"
                    raise DecoderFailed("IMAGE_DECODER_TIMEOUT", message) from None
            raise DecoderFailed("IMAGE_DECODER_CRASHED", f"the decoder crashed on this image, {TRIES} times")
        except OSError as error:  # no process could be started
            raise DecoderFailed("IMAGE_DECODER_FAILED", f"no decoding process: {error.strerror}") from error
        finally:
            self._free.put(helper)

    def close(self) -> None:
        """Call it when no thread decodes any more."""
        with suppress(Empty):
            while True:
                if helper := self._free.get_nowait():
                    helper.kill()
