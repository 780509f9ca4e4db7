"""What callers are told of a row that a worker could not compute.

The worker's own words name its files and devices, and whoever can write to Redis can choose them: they
are for the log, and only reasons that are known here become labels of metrics.
"""

import logging
from collections import Counter
from collections.abc import Iterable

import grpc

from broker import Row, RowError
from gateway.errors import ItemFailure

log = logging.getLogger(__name__)

UNKNOWN = "COMPUTE_FAILED"
TOLD = {
    UNKNOWN: "this item could not be computed",
    "INVALID_JOB": "the worker cannot read what this server sent",
    "INVALID_REPLY": "this server cannot read what the worker sent",
    "NON_FINITE": "the model gives no finite vector for this item",
    "OUT_OF_MEMORY": "the device has too little memory for this item",
    "POISON_QUARANTINED": "workers died again and again while computing this item",
    "WRONG_SHAPE": "the worker takes items of another shape",
}
_LOGGED_CHARACTERS = 300


def failure_of_row(error: RowError) -> ItemFailure:
    reason = error.reason if error.reason in TOLD else UNKNOWN
    code = grpc.StatusCode.UNAVAILABLE if error.retryable else grpc.StatusCode.INTERNAL
    return ItemFailure(code, reason, TOLD[reason], error.retryable)


def log_failed_rows(rows: Iterable[Row | RowError], tower: str, request_id: str) -> None:
    """One line for a call, with what was said most often."""
    said = Counter(f"{row.reason}: {row.message}" for row in rows if isinstance(row, RowError))
    for words, _ in said.most_common(1):
        log.warning(
            "%d rows of the %s tower failed, request_id=%s: %s",
            said.total(),
            tower,
            request_id,
            words[:_LOGGED_CHARACTERS],
        )
