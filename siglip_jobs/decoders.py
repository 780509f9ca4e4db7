"""Decodes pictures on this side, in processes, as the gateway would: pixels are sent instead of files."""

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from siglip_jobs.errors import JobError, Problem

if TYPE_CHECKING:
    from siglip_client import ModelDescription

Pixels = npt.NDArray[np.uint8]
TRIES = 2
TIMEOUT_S = 10.0
"""Of one picture, as in the gateway (max_decode_s)."""
START_TIMEOUT_S = 60.0


class Decoders:
    """Decodes like a function, from any thread; at most `count` pictures are in work."""

    def __init__(self, model: "ModelDescription", count: int) -> None:
        """Raises JobError for a gateway that does not say how it prepares pictures."""
        import PIL  # noqa: F401  # told here, where it is missing, and not by each process

        if model.image_resample is None:
            raise JobError("this gateway does not say how it resizes pictures: give --decode gateway")
        limits = model.limits
        self._arguments = (
            model.image_size,
            model.image_resample,
            limits.max_image_bytes,
            limits.max_image_pixels,
        )
        self._shape = (3, model.image_size, model.image_size)
        self._free: SimpleQueue[_Process | None] = SimpleQueue()
        self._all: set[_Process] = set()
        for _ in range(count):
            self._free.put(None)  # started when there is a picture for it

    def __call__(self, image: bytes) -> Pixels | Problem:
        """uint8 [3, size, size]. A picture that a process dies with is tried once more in another one."""
        process = self._free.get()
        try:
            for _ in range(TRIES):
                process = process or self._start()
                try:
                    return self._told(process.ask(image))
                except TimeoutError:
                    self._end(process)
                    process = None
                    return Problem("IMAGE_DECODER_TIMEOUT", f"not decoded within {TIMEOUT_S:g} s")
                except (EOFError, OSError):
                    self._end(process)
                    process = None
            return Problem("IMAGE_DECODER_CRASHED", f"the decoder crashed on this image, {TRIES} times")
        finally:
            self._free.put(process)

    def close(self) -> None:
        for process in list(self._all):
            self._end(process)

    def _told(self, answer: bytes) -> Pixels | Problem:
        from siglip_jobs.decoder import PIXELS, REFUSED, SEPARATOR

        kind, body = answer[:1], answer[1:]
        if kind == PIXELS:
            return np.frombuffer(body, np.uint8).reshape(self._shape)
        if kind == REFUSED:
            return Problem(*body.decode().split(SEPARATOR, 1))
        return Problem("IMAGE_DECODER_FAILED", f"the decoder failed: {body.decode()}")

    def _start(self) -> "_Process":
        process = _Process.start(self._arguments)
        self._all.add(process)
        return process

    def _end(self, process: "_Process") -> None:
        self._all.discard(process)
        process.kill()


@dataclass(eq=False)
class _Process:
    process: BaseProcess
    connection: Connection
    started: bool = False

    @classmethod
    def start(cls, arguments: tuple[int, ...]) -> "_Process":
        from siglip_jobs.decoder import serve

        # Spawned: a fork would copy gRPC's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
            process.start()
        return cls(process, ours)

    def ask(self, image: bytes) -> bytes:
        """Raises EOFError or OSError where it has died, TimeoutError where it takes too long."""
        self.connection.send_bytes(image)
        if not self.connection.poll(TIMEOUT_S if self.started else START_TIMEOUT_S):
            raise TimeoutError
        answer = self.connection.recv_bytes()
        self.started = True
        return answer

    def kill(self) -> None:
        with suppress(OSError):
            self.connection.close()
        self.process.kill()
        self.process.join()
