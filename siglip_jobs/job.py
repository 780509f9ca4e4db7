"""The run of a job: reading, preparing, embedding and writing at the same time, from where it stopped."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_jobs import reading
from siglip_jobs.assembly import Assembly, Place
from siglip_jobs.conclusion import conclude
from siglip_jobs.errors import JobError, OutputError, Problem
from siglip_jobs.manifest import Manifest
from siglip_jobs.options import Options, Progress, Summary
from siglip_jobs.output import Output
from siglip_jobs.parts import Layout, Part
from siglip_jobs.pending import Pending
from siglip_jobs.preparing import Prepare, prepared, preparing
from siglip_jobs.rows import Row
from siglip_jobs.sources import Source

if TYPE_CHECKING:
    from siglip_client import Client, ModelDescription, StreamItem, StreamResult

TICK_S = 0.2


class Job:
    """One run. `show` is told of the progress several times a second, by a thread of its own."""

    def __init__(
        self,
        source: Source,
        out: Path,
        client: "Client",
        options: Options,
        show: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._source, self._out, self._client = source, out, client
        self._options, self._show = options, show
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """No more items are begun: `run` returns once those in work are answered and written."""
        self._stopping.set()

    def abandon(self) -> None:
        """The same without those in work: the client is closed."""
        self._stopping.set()
        self._client.close()

    def run(self) -> Summary:
        """Raises JobError and SiglipError; what is answered by then is written, and the next run goes on."""
        began_s = time.monotonic()
        model = self._client.get_model()
        output = Output(self._options.shard.folder(self._out))
        try:
            found = output.begin(self._manifest(model), self._options.verify)
            written = reading.written_ids(output.folder, found) if self._source.grows else ()
            with closing(Pending(self._source, found, self._options.shard, written)) as pending:
                progress = Progress(found.rows, found.failed)
                self._embed(pending, output, model, progress)
                if pending.is_empty and not self._stopping.is_set():
                    raise JobError("the source holds no item")
                return conclude(
                    pending,
                    output,
                    before=progress.before,
                    seconds=time.monotonic() - began_s,
                    finished=not self._stopping.is_set(),
                )
        finally:
            output.close()

    def _manifest(self, model: "ModelDescription") -> Manifest:
        """As it is before the first part."""
        options, info = self._options, model.info
        return Manifest(
            model={"name": info.name, "revision": info.revision, "fingerprint": info.fingerprint},
            embedding_dim=model.embedding_dim,
            dtype=options.dtype,
            source=self._source.identity(),
            options={
                "format": options.format,
                "columns": list(self._source.column_types),
                "shard": f"{options.shard.index}/{options.shard.count}",
            },
        )

    def _embed(self, pending: Pending, output: Output, model: "ModelDescription", progress: Progress) -> None:
        options, dim = self._options, model.embedding_dim
        layout = Layout(options.format, dim, self._source.column_types)
        assembly = Assembly(
            lambda: Part(options.rows_per_part, dim, options.dtype),
            lambda part: output.add(part, layout),
            options.part_every_s,
        )
        try:
            with self._ticking(assembly, progress), preparing(options, model) as prepare:
                self._stream(self._items(pending, assembly, prepare), assembly, model)
        finally:
            assembly.close()

    def _stream(self, items: "Iterator[StreamItem]", assembly: Assembly, model: "ModelDescription") -> None:
        results = self._client.embed_stream(
            items,
            dtype=self._options.dtype,
            fingerprint=model.fingerprint,
            timeout_s=self._options.patience_s,
        )
        for result in self._until_abandoned(results):
            assert isinstance(result.key, Place)
            if result.vector is not None:
                assembly.answer(result.key, result.vector)
            elif result.error is not None:
                assembly.answer(result.key, Problem(result.error.reason, result.error.message))

    def _until_abandoned(self, results: "Iterator[StreamResult]") -> "Iterator[StreamResult]":
        from siglip_client import ModelChanged, SiglipError

        try:
            yield from results
        except ModelChanged as error:
            raise JobError(f"{error.message}: serve what it was, or give another --out") from None
        except SiglipError:
            if not self._stopping.is_set():
                raise

    def _items(self, pending: Pending, assembly: Assembly, prepare: Prepare) -> "Iterator[StreamItem]":
        """Runs in the client's thread. What cannot be read is answered here."""
        from siglip_client import ImageItem, PixelsItem, TextItem

        for row, content in prepared(self._begun(pending), prepare, self._options):
            place = assembly.expect(row)
            if isinstance(content, Problem):
                assembly.answer(place, content)
            elif isinstance(content, str):
                yield TextItem(place, content)
            elif isinstance(content, bytes):
                yield ImageItem(place, content)
            else:
                yield PixelsItem(place, content)

    def _begun(self, pending: Pending) -> Iterator[Row]:
        for row in pending.rows():
            if self._stopping.is_set():
                return
            yield row

    @contextmanager
    def _ticking(self, assembly: Assembly, progress: Progress) -> Iterator[None]:
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(TICK_S):
                with suppress(OutputError):  # told to who answers next, too
                    assembly.tick()
                self._tell(assembly, progress)

        def count() -> None:
            with suppress(JobError):  # which reading it will raise
                if total := self._source.total():
                    progress.total = total // self._options.shard.count

        # Counting a folder takes a while, and nobody waits for it.
        threading.Thread(target=count, name="siglip-count", daemon=True).start()
        ticker = threading.Thread(target=tick, name="siglip-ticker", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
            self._tell(assembly, progress)

    def _tell(self, assembly: Assembly, progress: Progress) -> None:
        progress.done, progress.failed = assembly.answered, assembly.failed
        self._show(progress)
