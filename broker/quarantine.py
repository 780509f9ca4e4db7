"""One suspect entry, run alone and at last row by row, so that only the row that kills workers fails."""

from collections.abc import Mapping
from dataclasses import replace

from broker.jobs import Job, JobResult, RowError

POISON = "POISON_QUARANTINED"


def condemned(deliveries: int) -> RowError:
    """The error of rows that were on the device when their worker died, again and again."""
    return RowError(POISON, f"workers died {deliveries - 1} times while computing this", retryable=False)


class Quarantine:
    """Hands out an entry's job, or its rows one by one, and joins the results. Rows in `errors` never run."""

    def __init__(self, job: Job, *, by_row: bool, errors: Mapping[int, RowError] | None = None) -> None:
        self.job = job
        # Then the mark that names it must stay as it is.
        self.culprit_known = bool(errors)
        self._results: dict[int, JobResult] = {}
        self._errors = dict(errors or {})
        rows = [row for row in range(job.rows) if row not in self._errors]
        self._todo = [self._row_job(row) for row in rows] if by_row else [job]

    def next_job(self) -> Job | None:
        """What runs next; None when all was handed out."""
        return self._todo[0] if self._todo else None

    def handed_out(self) -> None:
        """`next_job` is with the device loop."""
        self._todo.pop(0)

    def add(self, result: JobResult) -> JobResult | None:
        """Takes one result; gives the whole entry's when it was the last."""
        if result.job is self.job:
            return result
        self._results[result.job.row] = result
        if 0 in result.errors:
            self._errors[result.job.row] = result.errors[0]
        return self._joined() if len({*self._results, *self._errors}) == self.job.rows else None

    def _row_job(self, row: int) -> Job:
        size = self.job.row_bytes
        payload = self.job.payload[row * size : (row + 1) * size]
        return replace(self.job, shape=(1, *self.job.shape[1:]), payload=payload, row=row, quarantined=True)

    def _joined(self) -> JobResult:
        dim = max((result.dim for result in self._results.values()), default=0)
        good = {row: result for row, result in self._results.items() if row not in self._errors}
        rows = range(self.job.rows)
        return JobResult(
            self.job,
            vectors=b"".join(good[row].vectors if row in good else bytes(dim * 4) for row in rows),
            norms=b"".join(good[row].norms if row in good else bytes(4) for row in rows),
            dim=dim,
            compute_us=sum(result.compute_us for result in self._results.values()),
            errors=self._errors,
        )
