"""What a run leaves beside the parts: the list of failures and the summary."""

import json
from dataclasses import asdict
from itertools import islice
from typing import BinaryIO

from siglip_jobs import reading
from siglip_jobs.options import Summary
from siglip_jobs.output import Output
from siglip_jobs.pending import Pending

ERRORS, SUMMARY = "errors.jsonl", "summary.json"
SHOWN_VANISHED = 10


def conclude(pending: Pending, output: Output, *, before: int, seconds: float, finished: bool) -> Summary:
    """before: rows that were there when the run began. Files are written only when it is finished."""
    found = output.manifest
    assert found
    vanished = len(pending.vanished) if finished else 0
    summary = Summary(
        rows=found.rows,
        failed=found.failed,
        duplicates=pending.duplicates,
        vanished=vanished,
        vanished_ids=_first_vanished(pending, output) if vanished else [],
        done_now=found.rows - before,
        unverified_parts=output.unverified_parts,
        seconds=round(seconds, 3),
        finished=finished,
    )
    if finished:
        found.finished = True
        output.save()
        output.write(ERRORS, lambda file: _write_errors(file, pending, output))
        output.write(SUMMARY, lambda file: file.write(json.dumps(asdict(summary), indent=1).encode() + b"\n"))
    return summary


def _first_vanished(pending: Pending, output: Output) -> list[str]:
    assert output.manifest
    written = reading.written_ids(output.folder, output.manifest)
    return list(islice((name for name in written if name in pending.vanished), SHOWN_VANISHED))


def _write_errors(file: BinaryIO, pending: Pending, output: Output) -> None:
    assert output.manifest
    for identity, error in reading.failures(output.folder, output.manifest):
        file.write(json.dumps({"id": identity, "error": error}, ensure_ascii=False).encode() + b"\n")
    for line in pending.repeated():
        file.write(line.encode())
