"""A worker that answers at once, without a model: python -m benchmarks.service.queue_echo URL TOWER DIM"""

import signal
import struct
import sys
import uuid
from typing import cast

from broker import Job, JobResult, Tower, WorkerInfo, worker_end
from siglip_settings import RedisSettings

TAG, FINGERPRINT = "benchmark", "f" * 16
MAX_ROWS = 512


def main(url: str, tower: Tower, dim: int) -> None:
    info = WorkerInfo(uuid.uuid4().hex, tower, "cpu", "float32", "sdpa", FINGERPRINT)
    settings = RedisSettings(redis_url=url)
    worker = worker_end(settings, tag=TAG, tower=tower, fingerprint=FINGERPRINT, info=info)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        if jobs := worker.wanted(worker.take(MAX_ROWS, 0.1)):
            worker.reply([_answer(job, dim) for job in jobs])


def _answer(job: Job, dim: int) -> JobResult:
    norms = struct.pack(f"<{job.rows}f", *[1.0] * job.rows)
    return JobResult(job, bytes(4 * dim * job.rows), norms, dim, 1, {})


if __name__ == "__main__":
    main(sys.argv[1], cast("Tower", sys.argv[2]), int(sys.argv[3]))
