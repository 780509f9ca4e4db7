"""Our service, started as users start it, and the calls that it is measured with."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.service import inputs, load, streaming
from benchmarks.service.book import NUMBERS, Book
from benchmarks.service.load import Call, Drive
from benchmarks.service.streaming import MakeItem
from examples.local_service import local_service
from siglip_client import AsyncClient, Client, ImageItem, TextItem

ITEMS: dict[str, MakeItem] = {
    "text": lambda due_s, number: TextItem(due_s, inputs.text(number)),
    "image": lambda due_s, number: ImageItem(due_s, inputs.picture(number)),
}


@dataclass
class Ours:
    address: str
    client: AsyncClient
    stream_client: Client

    def call(self, kind: str) -> Call:
        """One text, one image, or one image with labels that stay the same."""
        client = self.client
        calls: dict[str, Call] = {
            "text": lambda n: client.embed_texts([inputs.text(n)]),
            "image": lambda n: client.embed_images([inputs.picture(n)]),
            "classify": lambda n: client.classify([inputs.picture(n)], inputs.LABELS),
        }
        return calls[kind]

    def unary(self, kind: str, in_flight: int) -> Drive:
        return partial(load.closed, self.call(kind), in_flight)

    def unary_open(self, kind: str, per_s: float) -> Drive:
        return partial(load.opened, self.call(kind), per_s)

    def stream(self, kind: str, in_flight: int = streaming.ALL) -> Drive:
        drive = partial(streaming.closed, self.stream_client, ITEMS[kind], in_flight)
        return partial(self._to_its_end, drive, kind)

    def job(self, kind: str, count: int) -> Drive:
        return partial(streaming.whole, self.stream_client, ITEMS[kind], count)

    def stream_open(self, kind: str, per_s: float) -> Drive:
        drive = partial(streaming.opened, self.stream_client, ITEMS[kind], per_s)
        return partial(self._to_its_end, drive, kind)

    async def _to_its_end(self, drive: Drive, kind: str, book: Book) -> None:
        """What a stream gives up may be in work still: a call waits behind it, so that the next does not."""
        await drive(book)
        await self.call(kind)(next(NUMBERS))


@asynccontextmanager
async def serving(checkpoint: Path, *options: str) -> AsyncIterator[Ours]:
    with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as folder:
        given = ("--device", "cpu", "--log-level", "warning", *options)
        service = local_service(str(checkpoint), Path(folder), *given)
        address = await asyncio.to_thread(service.__enter__)
        try:
            async with AsyncClient(address) as client:
                with Client(address) as stream_client:
                    yield Ours(address, client, stream_client)
        finally:
            await asyncio.to_thread(service.__exit__, None, None, None)
