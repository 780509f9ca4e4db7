"""A worker of the queue without a model: vectors follow from the rows' bytes, special rows misbehave.

In a thread (`QueueWorker`) or as a process of its own, to be killed:
`python -m tests.support.queue_worker URL TAG TOWER [WORKER_ID]`.
"""

import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType

import numpy as np

from broker import Job, JobResult, RowError, Tower, WorkerInfo, WorkerTiming, worker_end
from siglip_settings import RedisSettings
from tests.support.roles import as_role

FINGERPRINT = "f" * 16
DIM = 4
# First number of a row, as int32.
KILLS, HANGS, FAILS = 901, 902, 903
# Short, so that tests are; the lease still covers a busy machine's hiccups.
QUICK = WorkerTiming(
    lease_s=1.0,
    beat_every_s=0.1,
    scan_every_s=0.1,
    dead_idle_s=0.05,
    hung_idle_s=1.5,
    stall_after_s=1.0,
    stale_consumer_s=0.5,
)
MAX_ROWS: dict[Tower, int] = {"text": 64, "vision": 8}


def text_row(*numbers: int, length: int = 16) -> bytes:
    """Token ids that begin with these."""
    return np.array([*numbers, *[0] * (length - len(numbers))], np.int32).tobytes()


def vector_of(row: bytes) -> tuple[bytes, float]:
    """The vector and norm that every worker gives to this row."""
    digest = hashlib.sha256(row).digest()
    return struct.pack("<4f", *digest[:DIM]), float(digest[DIM]) + 1.0


def compute(job: Job) -> JobResult:
    """Vectors of a job's rows; special rows kill, hang or fail."""
    rows = [job.payload[i * job.row_bytes : (i + 1) * job.row_bytes] for i in range(job.rows)]
    errors: dict[int, RowError] = {}
    for index, row in enumerate(rows):
        kind = struct.unpack("<i", row[:4])[0] if job.dtype == "int32" else None
        if kind == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == HANGS:
            time.sleep(3600)
        if kind == FAILS:
            errors[index] = RowError("COMPUTE_FAILED", "this row fails", retryable=False)
    answers = [(bytes(4 * DIM), 0.0) if i in errors else vector_of(row) for i, row in enumerate(rows)]
    norms = struct.pack(f"<{job.rows}f", *(norm for _, norm in answers))
    return JobResult(job, b"".join(vector for vector, _ in answers), norms, DIM, 7, errors)


class QueueWorker:
    """A worker in a thread. `on_jobs` runs before the computing, with the jobs of one turn."""

    def __init__(
        self,
        url: str | RedisSettings,
        tag: str,
        tower: Tower = "text",
        *,
        fingerprint: str = FINGERPRINT,
        worker_id: str | None = None,
        timing: WorkerTiming = QUICK,
        max_rows: int | None = None,
        max_batch_rows: int = 0,
        tls: Mapping[str, str] | None = None,
        on_jobs: Callable[[list[Job]], None] = lambda jobs: None,
    ) -> None:
        self.worker_id = worker_id or uuid.uuid4().hex
        self.broker = worker_end(
            RedisSettings(redis_url=as_role(url, "worker"), **(tls or {})) if isinstance(url, str) else url,
            tag=tag,
            tower=tower,
            fingerprint=fingerprint,
            info=WorkerInfo(self.worker_id, tower, "cpu", "float32", "sdpa", fingerprint),
            timing=timing,
        )
        self.jobs: list[Job] = []
        self._max_rows = max_rows or MAX_ROWS[tower]
        self._max_batch_rows = max_batch_rows
        self._on_jobs = on_jobs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        """Until `stop`."""
        self.broker.start_heartbeat(max_batch_rows=self._max_batch_rows)
        while not self._stopping.is_set():
            jobs = self.broker.take(self._max_rows, 0.1)
            self._on_jobs(jobs)
            jobs = self.broker.wanted(jobs)
            self.jobs += jobs
            if jobs:
                self.broker.reply([compute(job) for job in jobs])

    def drain(self) -> None:
        """Finishes what it holds, and takes nothing more."""
        self.broker.drain()
        self._stopping.set()

    def stop(self) -> None:
        """Drains and leaves."""
        self.drain()
        self._thread.join(10)
        self.broker.close()

    def __enter__(self) -> "QueueWorker":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_process(
    url: str, tag: str, tower: Tower = "text", worker_id: str = ""
) -> "subprocess.Popen[bytes]":
    """A worker as a process; `worker_id` chosen by the caller, or random."""
    command = [sys.executable, "-m", "tests.support.queue_worker", url, tag, tower, worker_id]
    return subprocess.Popen(command)


def main(url: str, tag: str, tower: Tower, worker_id: str) -> None:
    """Ends on SIGTERM, after draining."""
    # Nobody runs beside it who might take a late beat for its death.
    timing = replace(QUICK, lease_s=0.4)
    worker = QueueWorker(url, tag, tower, worker_id=worker_id, timing=timing)
    signal.signal(signal.SIGTERM, lambda *_: worker._stopping.set())
    worker.run()
    worker.broker.drain()
    worker.broker.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] or uuid.uuid4().hex)  # type: ignore[arg-type]
