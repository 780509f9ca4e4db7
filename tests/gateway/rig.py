"""What the gateway's tests share: a worker in a thread with the real queue, pictures, readable errors."""

import asyncio
import io
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from broker import Job, JobResult, RowError, WorkerBroker, WorkerInfo, model_tag
from gateway.served import ServedModel
from siglip_settings import RedisSettings
from tests.support.slow_model import vector_of


class FakeWorker:
    """A worker in a thread: the real queue, and for a model vectors that follow from a row's bytes."""

    def __init__(self, url: str, model: ServedModel, tower: Any) -> None:
        self.model = model
        self._running, self._idle = threading.Event(), threading.Event()
        self._running.set()
        self._answering = threading.Event()
        self._answering.set()
        self.failing: set[bytes] = set()
        """Rows that have no vector, with `failure`."""
        self.failure = RowError("COMPUTE_FAILED", "RuntimeError: see /srv/worker.py", False)
        self.rows: list[bytes] = []
        """Every row that was computed."""
        self.held = 0
        """Entries that it has taken and not answered."""
        info = WorkerInfo(f"fake-{tower}", tower, "cpu", "float32", "sdpa", model.fingerprint, model.name)
        tag = model_tag(model.name, model.fingerprint)
        self._broker = WorkerBroker(
            RedisSettings(redis_url=url), tag=tag, tower=tower, fingerprint=model.fingerprint, info=info
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fake {tower} worker")
        self._broker.start_heartbeat()
        self._thread.start()

    def pause(self) -> None:
        """From now on it takes nothing, and goes on living."""
        self._running.clear()
        self._idle.clear()
        assert self._idle.wait(10)

    def resume(self) -> None:
        self._running.set()
        self._answering.set()

    def hold(self) -> None:
        """From now on it takes, and answers nothing until it resumes."""
        self._answering.clear()

    def stop(self) -> None:
        self.resume()
        self._stop.set()
        self._thread.join()
        self._broker.drain()
        self._broker.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._running.is_set():
                self._idle.set()
                self._running.wait(0.05)
            elif jobs := self._broker.take(256, 0.05):
                self.held = len(jobs)
                self._answering.wait()
                self.held = 0
                self._broker.reply([self._answer(job) for job in jobs])
            self._broker.progress()

    def _answer(self, job: Job) -> JobResult:
        rows = [job.payload[i * job.row_bytes : (i + 1) * job.row_bytes] for i in range(job.rows)]
        self.rows += rows
        dim = self.model.embedding_dim
        vectors = [vector_of(row, dim) for row in rows]
        errors = {index: self.failure for index, row in enumerate(rows) if row in self.failing}
        units = b"".join(unit.astype("<f4").tobytes() for unit, _ in vectors)
        norms = np.array([norm for _, norm in vectors], "<f4").tobytes()
        return JobResult(job, units, norms, dim, compute_us=1234, errors=errors)


def picture(seed: int, size: tuple[int, int] = (48, 40), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An encoded picture; other seeds give other pixels. `size` is (width, height)."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size).convert(mode)
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


class Refused:
    """A refused call as a client sees it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self.trailers = pairs(error.trailing_metadata())
        self.details: dict[str, Any] = {}
        status = status_pb2.Status.FromString(self.trailers.get("grpc-status-details-bin", b""))
        for packed in status.details:
            kind = getattr(error_details_pb2, packed.type_url.rpartition(".")[2])
            self.details[kind.DESCRIPTOR.name] = kind.FromString(packed.value)

    @property
    def reason(self) -> str:
        info = self.details["ErrorInfo"]
        assert info.domain == "siglip.v1"
        return str(info.reason)

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.details["BadRequest"].field_violations]

    @property
    def trailer_bytes(self) -> int:
        """As HTTP/2 carries them: base64 for binary values, per cent for characters outside ASCII."""
        return len(self.message.encode()) * 3 + sum(
            len(key) + (len(value) * 4 // 3 if isinstance(value, bytes) else len(value))
            for key, value in self.trailers.items()
        )


def pairs(metadata: Any) -> dict[str, Any]:
    """gRPC's metadata as a dict; it looks like a mapping and iterates like a list of pairs."""
    return dict(list(metadata or ()))


async def refused(call: Awaitable[Any]) -> Refused:
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        return Refused(error)
    raise AssertionError(f"answered: {reply}")


async def until(condition: Callable[[], Any | Awaitable[Any]], within_s: float = 10.0) -> None:
    """Polls until `condition` holds."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if await result if isinstance(result, Awaitable) else result:
            return
        if time.monotonic() > deadline:
            raise AssertionError("condition did not come true in time")
        await asyncio.sleep(0.01)
