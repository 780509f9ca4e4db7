"""Turns a batch of jobs into one result per job."""

import time
from collections.abc import Sequence

from broker import Job, JobResult, RowError
from workers.batch import Tower, Vectors, pack
from workers.compute import Computer, Errors


def answer(jobs: Sequence[Job], computer: Computer) -> list[JobResult]:
    """Runs all jobs that fit the tower as one batch; the others get an error."""
    fitting = [job for job in jobs if _fits(job, computer.tower)]
    misfits = [_misfit(job, computer.tower) for job in jobs if not _fits(job, computer.tower)]
    return misfits + (_run(fitting, computer) if fitting else [])


def _run(jobs: Sequence[Job], computer: Computer) -> list[JobResult]:
    started = time.monotonic()
    vectors, errors = computer.compute(pack([job.payload for job in jobs], computer.tower))
    compute_us = round((time.monotonic() - started) * 1e6)
    results, first = [], 0
    for job in jobs:
        results.append(_result(job, first, vectors, errors, compute_us))
        first += job.rows
    return results


def _result(job: Job, first: int, vectors: Vectors, errors: Errors, compute_us: int) -> JobResult:
    mine = slice(first, first + job.rows)
    return JobResult(
        job,
        vectors=vectors.units[mine].astype("<f4", copy=False).tobytes(),
        norms=vectors.norms[mine].astype("<f4", copy=False).tobytes(),
        dim=vectors.units.shape[1],
        compute_us=compute_us,
        errors={row - first: error for row, error in errors.items() if first <= row < first + job.rows},
    )


def _fits(job: Job, tower: Tower) -> bool:
    return job.shape[1:] == tower.row_shape and job.dtype == tower.dtype


def _misfit(job: Job, tower: Tower) -> JobResult:
    message = (
        f"rows are {job.dtype} {list(job.shape[1:])}; this worker takes {tower.dtype} {list(tower.row_shape)}"
    )
    return JobResult.failed(job, RowError("WRONG_SHAPE", message, False))
