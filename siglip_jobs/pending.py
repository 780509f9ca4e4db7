"""Which rows of a source are still to be done: this share's, each id once, and none that is written."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from siglip_jobs.errors import OutputError, Problem
from siglip_jobs.ids import Ids
from siglip_jobs.manifest import Manifest
from siglip_jobs.rows import Row
from siglip_jobs.shards import Shard
from siglip_jobs.sources import Source


class Pending:
    """Goes through a source once; what it found on its way is known afterwards.

    written: ids that are done, of a source that grows. Other sources go on where the manifest ends.
    """

    def __init__(self, source: Source, manifest: Manifest, shard: Shard, written: Iterable[str] = ()) -> None:
        self._source, self._shard = source, shard
        self._after = 0 if source.grows else manifest.end
        self._check = bytes.fromhex(manifest.parts[-1].check) if manifest.parts else b""
        self.vanished = Ids(written)
        """Ids that are written, and were not met."""
        self._seen = Ids() if source.may_repeat else None
        self._repeated: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.duplicates = 0
        self.is_empty = self._after == 0

    def rows(self) -> Iterator[Row]:
        """Raises OutputError where standard input is not what it was."""
        checked = not self._check
        for row in self._source.rows(self._after):
            self.is_empty = False
            if self._check and row.position == self._after - 1:
                self._compare(row.check)
                checked = True
            if self._is_to_do(row):
                yield row
        if not checked:
            self._compare(b"")

    def repeated(self) -> Iterator[str]:
        """The rows whose ids were taken, as lines of errors.jsonl."""
        self._repeated.seek(0)
        yield from self._repeated

    def close(self) -> None:
        self._repeated.close()

    def _is_to_do(self, row: Row) -> bool:
        if not self._shard.holds(row.id):
            return False
        if self._seen is not None and not self._seen.add(row.id):
            self._repeat(row)
            return False
        if self._source.grows and row.id in self.vanished:
            self.vanished.discard(row.id)
            return False
        return row.position >= self._after

    def _repeat(self, row: Row) -> None:
        self.duplicates += 1
        problem = Problem("DUPLICATE_ID", f"row {row.position} has the id of an earlier row")
        print(json.dumps({"id": row.id, "error": str(problem)}, ensure_ascii=False), file=self._repeated)

    def _compare(self, check: bytes) -> None:
        if check != self._check:
            raise OutputError(
                f"the first {self._after} lines of standard input are not those that the job began with: "
                "give the same ones, or another --out"
            )
