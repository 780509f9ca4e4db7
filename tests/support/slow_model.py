"""A stand-in for a slow model: a fixed service time per batch, and vectors that follow from the rows' bytes.

As a process it is a real worker with this tower in place of the checkpoint's:

    python -m tests.support.slow_model --tower vision --model FOLDER --redis-url URL --batch-s 0.05

Rows whose numbers are all the same special value misbehave: see RAISES and its neighbours.
"""

import argparse
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from siglip_model.config import SiglipConfig
from siglip_settings import WorkerSettings
from workers import traces
from workers.batch import RowDtype, Rows, Vectors
from workers.compute import Computer
from workers.connect import connect
from workers.metrics import Metrics
from workers.serve import serve

ROOT = Path(__file__).parents[2]

# As pixels: a picture of one grey. As token ids: that id at every position.
RAISES, NOT_FINITE, KILLS, HANGS = 241, 242, 243, 244


@dataclass
class SlowTower:
    row_shape: tuple[int, ...]
    dtype: RowDtype
    dim: int
    batch_s: float = 0.0
    """Time of a run, however many rows it has."""
    row_s: float = 0.0
    """Time added for each row."""
    breaks_after_rows: int = 0
    """After so many rows nothing works any more; 0: never."""
    breaks_to_nan: bool = False
    """Then every vector is NaN; otherwise every run raises."""
    done_rows: int = 0

    def run(self, rows: Rows) -> Vectors:
        time.sleep(self.batch_s + self.row_s * len(rows))
        if 0 < self.breaks_after_rows <= self.done_rows:
            if self.breaks_to_nan:
                return Vectors(
                    np.full((len(rows), self.dim), np.nan, np.float32), np.ones(len(rows), np.float32)
                )
            raise RuntimeError("the device is broken")
        self.done_rows += len(rows)
        kinds = [_special(row) for row in rows]
        if RAISES in kinds:
            raise RuntimeError("this row cannot be computed")
        if KILLS in kinds:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANGS in kinds:
            time.sleep(3600)
        vectors = [vector_of(row.tobytes(), self.dim) for row in rows]
        units = np.stack([unit for unit, _ in vectors])
        units[[kind == NOT_FINITE for kind in kinds]] = np.nan
        return Vectors(units, np.array([norm for _, norm in vectors], np.float32))


def vector_of(row: bytes, dim: int) -> tuple[NDArray[np.float32], float]:
    """The unit vector and the norm that every slow model gives to this row."""
    digest = hashlib.shake_128(row).digest(4 * dim)
    vector = np.frombuffer(digest, "<u4").astype(np.float64) / 2**31 - 1
    norm = float(np.linalg.norm(vector))
    return (vector / norm).astype(np.float32), norm


def special_row(value: int, row_shape: tuple[int, ...], dtype: RowDtype) -> bytes:
    """The bytes of a row that misbehaves."""
    return np.full(row_shape, value, dtype).tobytes()


def _special(row: Rows) -> int | None:
    first = int(row.flat[0])
    return first if RAISES <= first <= HANGS and (row == first).all() else None


@contextmanager
def slow_worker(
    tower: Literal["text", "vision"],
    model: Path,
    redis_url: str,
    *,
    batch_s: float = 0.0,
    row_s: float = 0.0,
    max_batch_rows: int = 8,
    drain_timeout_s: float = 10.0,
    breaks_after_rows: int = 0,
    traces_endpoint: str | None = None,
    breaks_to_nan: bool = False,
    shards: int = 1,
    log: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker process with this tower in place of the checkpoint's; killed at the end if it still runs.

    It is ready once its lease is in Redis.
    """
    options = {
        "tower": tower,
        "model": model,
        "redis-url": redis_url,
        "batch-s": batch_s,
        "row-s": row_s,
        "max-batch-rows": max_batch_rows,
        "drain-timeout-s": drain_timeout_s,
        "breaks-after-rows": breaks_after_rows,
    }
    if shards > 1:
        options |= {"redis-cluster": "on", "redis-shards": shards}
    if traces_endpoint:
        options["traces-endpoint"] = traces_endpoint
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    arguments += ["--breaks-to-nan"] * breaks_to_nan
    command = [sys.executable, "-m", "tests.support.slow_model", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tower", choices=("text", "vision"), required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--max-batch-rows", type=int, default=8)
    parser.add_argument("--drain-timeout-s", type=float, default=10.0)
    parser.add_argument("--batch-s", type=float, default=0.0)
    parser.add_argument("--row-s", type=float, default=0.0)
    parser.add_argument("--breaks-after-rows", type=int, default=0)
    parser.add_argument("--traces-endpoint")
    parser.add_argument("--redis-cluster", choices=("off", "on"), default="off")
    parser.add_argument("--redis-shards", type=int, default=1)
    parser.add_argument("--breaks-to-nan", action="store_true")
    given = vars(parser.parse_args(arguments))
    manner = {name: given.pop(name) for name in ("batch_s", "row_s", "breaks_after_rows", "breaks_to_nan")}
    settings = WorkerSettings(device="cpu", **given)
    logging.basicConfig(level=logging.INFO)
    tower = tower_like(settings, **manner)
    folder = Path(settings.model)
    broker = connect(settings, folder, device="cpu", dtype="float32", attention="eager")
    computer = Computer(tower, settings.max_batch_rows, broker.progress)
    spans = traces.start(settings)
    return serve(broker, computer, Metrics(CollectorRegistry()), settings.drain_timeout_s, spans)


def tower_like(settings: WorkerSettings, **manner: Any) -> SlowTower:
    """With the shapes of the checkpoint's tower."""
    config = SiglipConfig.from_pretrained(settings.model)
    dim, side = config.vision_config.hidden_size, config.vision_config.image_size
    if settings.tower == "text":
        return SlowTower((config.text_config.max_position_embeddings,), "int32", dim, **manner)
    return SlowTower((3, side, side), "uint8", dim, **manner)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
