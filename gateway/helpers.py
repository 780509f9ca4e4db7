"""The decoding processes as the gateway sees them: one for each decoding thread, replaced when it is lost."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import get_args

from gateway.decoding import ANSWER_BYTES, FAILED, PIXELS, READY, REFUSED, DecoderSettings, receive
from gateway.errors import StartError
from siglip_model.image_decoding import ImageError, Reason

log = logging.getLogger(__name__)

# -P: a folder named gateway where the user happens to stand must not shadow ours.
_COMMAND = [sys.executable, "-P", "-m", "gateway.decode_helper"]
# Threads of number libraries would only take address space.
_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# What an interpreter and its libraries need. Passwords and tokens are none of a decoder's business.
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_", "TZ", "PYTHON", "LD_", "DYLD_", "OPENBLAS_", "MALLOC_")

TRIES = 2
START_TIMEOUT_S = 60.0
# Why there are no pixels: a reason and a sentence.
MAX_TOLD_BYTES = 64 * 1024


class DecoderFailed(Exception):
    """No pixels, through no fault that the picture is known to have. `reason` is stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Crashed(Exception):
    """It died, or answers what no decoder answers."""


def environ() -> dict[str, str]:
    """Of a decoding process."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)} | _THREADS


@dataclass(eq=False)
class Helper:
    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    row_bytes: int
    ready: bool = False

    @classmethod
    def start(cls, settings: DecoderSettings) -> "Helper":
        """Raises OSError. Nothing runs between fork and exec, which keeps gRPC's threads out of it."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*_COMMAND, str(theirs.fileno()), json.dumps(asdict(settings))]
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environ()
            )
        return cls(process, ours, 3 * settings.size * settings.size)

    def decode(self, image: bytes, timeout_s: float) -> bytes:
        """Raises ImageError, DecoderFailed, _Crashed, TimeoutError."""
        try:
            self._wait_until_ready()
            end_s = time.monotonic() + timeout_s
            self.connection.settimeout(timeout_s)
            self.connection.sendall(struct.pack("<Q", len(image)))
            self.connection.sendall(image)
            kind, length = struct.unpack("<BQ", self._receive(ANSWER_BYTES, end_s))
            if length > (self.row_bytes if kind == PIXELS else MAX_TOLD_BYTES):
                raise _Crashed
            answer = self._receive(length, end_s)
        except TimeoutError:
            raise
        except OSError as error:
            raise _Crashed from error
        if kind == PIXELS and length == self.row_bytes:
            return answer
        raise _told(kind, answer)

    def _wait_until_ready(self) -> None:
        """Its start is not the picture's time."""
        if not self.ready:
            self._receive(len(READY), time.monotonic() + START_TIMEOUT_S)
            self.ready = True

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


def _told(kind: int, answer: bytes) -> Exception:
    """What a helper says instead of pixels; _Crashed when that is none of its words."""
    try:
        if kind == REFUSED:
            reason, message = json.loads(answer)
            if reason in get_args(Reason):
                return ImageError(reason, str(message))
        if kind == FAILED:
            return DecoderFailed("IMAGE_DECODER_FAILED", f"the decoder failed: {answer.decode()}")
    except ValueError:
        pass
    return _Crashed()


class Helpers:
    """Decodes like a function, from any thread; at most `count` at a time are ever in work."""

    def __init__(self, settings: DecoderSettings, count: int, timeout_s: float) -> None:
        """Raises StartError."""
        self._settings, self._timeout_s = settings, timeout_s
        self._closing = False
        self._alive: set[Helper] = set()
        self._free: SimpleQueue[Helper | None] = SimpleQueue()
        try:
            for _ in range(count):
                self._free.put(self._start())
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
                helper = helper or self._start()
                try:
                    return helper.decode(image, self._timeout_s)
                except (ImageError, DecoderFailed):
                    raise
                except BaseException as error:
                    # Whatever it was: what it would say next might belong to this picture.
                    self._end(helper)
                    helper = None
                    self._explain(error, image)
            raise DecoderFailed("IMAGE_DECODER_CRASHED", f"the decoder crashed on this image, {TRIES} times")
        except OSError as error:  # no process could be started
            raise DecoderFailed("IMAGE_DECODER_FAILED", f"no decoding process: {error.strerror}") from error
        finally:
            self._free.put(helper)

    def close(self) -> None:
        """Ends all of them, whatever they are doing; their pictures fail."""
        self._closing = True
        for helper in list(self._alive):
            self._end(helper)

    def _explain(self, error: BaseException, image: bytes) -> None:
        """Raises what is to be told. Returns where another try is worthwhile."""
        if self._closing:
            raise DecoderFailed("IMAGE_DECODER_FAILED", "this server is stopping") from None
        if isinstance(error, TimeoutError):
            message = f"not decoded within {self._timeout_s:g} s (max_decode_s)"
            raise DecoderFailed("IMAGE_DECODER_TIMEOUT", message) from None
        if not isinstance(error, _Crashed):
            raise error
        log.error("a decoding process died with an image of %d bytes", len(image))

    def _start(self) -> Helper:
        helper = Helper.start(self._settings)
        self._alive.add(helper)
        if self._closing:
            self._end(helper)
        return helper

    def _end(self, helper: Helper) -> None:
        self._alive.discard(helper)
        helper.kill()
