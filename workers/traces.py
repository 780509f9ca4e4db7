"""The worker's part of a call's trace: for each traced job of a batch how it waited, computed, went back.

A batch serves many calls. Each gets spans of its own, so that its trace is whole in any viewer; the number
of the batch in their attributes shows who shared the device.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker import Job
from siglip_settings import WorkerSettings
from siglip_traces import TracesError, start_traces
from workers.errors import SetupError
from workers.timing import BatchTiming

if TYPE_CHECKING:
    from siglip_traces.spans import Traces


def start(settings: WorkerSettings) -> "Traces | None":
    """None when they are off. Raises SetupError."""
    try:
        return start_traces(
            f"{settings.tower}-worker", settings.traces_endpoint, settings.traces_sample_ratio
        )
    except TracesError as error:
        raise SetupError(str(error)) from error


def record(traces: "Traces", jobs: Sequence[Job], timing: BatchTiming) -> None:
    """The batch of these jobs has been answered."""
    shared: dict[str, str | int] = {
        "siglip.batch.id": os.urandom(8).hex(),
        "siglip.batch.jobs": len(jobs),
        "siglip.batch.rows": sum(job.rows for job in jobs),
    }
    for job, waited_s in zip(jobs, timing.waited_s, strict=True):
        if (within := traces.parent(job.trace_context)) is None:
            continue
        attributes = shared | {"siglip.rows": job.rows}
        queued_ns = timing.started_ns - round(waited_s * 1e9)
        traces.record("wait", within, queued_ns, timing.started_ns, attributes)
        traces.record("compute", within, timing.started_ns, timing.computed_ns, attributes)
        traces.record("reply", within, timing.computed_ns, timing.replied_ns, attributes)
