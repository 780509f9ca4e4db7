"""An EmbedStream of a conformance plan; what crosses the wire is counted beside what the user gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reading import Report, told
from siglip.v1 import types_pb2

from siglip_client import Client, ImageItem, StreamItem, StreamResult, TextItem
from siglip_client.vectors import WIRE_DTYPES

_DTYPES = {number: name for name, number in WIRE_DTYPES.items()}
_PROGRESS_EVERY = 100


class Wire:
    """Stands before the EmbedStream of a connection."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._lock = threading.Lock()
        self.streams = self.most_unanswered = self._unanswered = 0
        self.allowed: list[int] = []

    def __call__(self, messages: Iterator[Any], **options: Any) -> Any:
        with self._lock:
            self.streams += 1
            # What a lost stream had not answered is answered on this one.
            self._unanswered = 0
        return Heard(self._method(self._counted(messages), **options), self._hear)

    def _counted(self, messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            with self._lock:
                self._unanswered += len(message.items)
                self.most_unanswered = max(self.most_unanswered, self._unanswered)
            yield message

    def _hear(self, response: Any) -> None:
        with self._lock:
            self._unanswered -= len(response.results)
        if response.HasField("opened"):
            self.allowed.append(response.opened.max_unanswered_items)


class Heard:
    """A call whose responses are shown to `hear` on their way."""

    def __init__(self, call: Any, hear: Callable[[Any], None]) -> None:
        self._call, self._hear = call, hear

    def __iter__(self) -> Iterator[Any]:
        for response in self._call:
            self._hear(response)
            yield response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Streaming:
    def __init__(self, client: Client, case: Report, inputs: Path, say: Callable[[Report], None]) -> None:
        self._client, self._case, self._inputs, self._say = client, case, inputs, say
        self._stream = case["stream"]
        self._contents = self._stream.get("texts") or self._stream["images"]

    def report(self) -> Report:
        """Raises SiglipError."""
        # No public way leads to what is sent: the client keeps within its credit by itself.
        [method] = self._client._streams
        wire = Wire(method)
        self._client._streams = [wire]
        try:
            results, duplicates = self._collected()
        finally:
            self._client._streams = [method]
        shown = [results.get(i) for i in range(min(self._stream["count"], len(self._contents)))]
        return {
            "code": "OK",
            "results": len(results) + duplicates,
            "duplicates": duplicates,
            "most_unanswered": wire.most_unanswered,
            "allowed_unanswered": min(wire.allowed),
            "streams": wire.streams,
            "vectors": [
                None if each is None or each.vector is None else each.vector.tolist() for each in shown
            ],
            "item_errors": [told(each.error) for each in results.values() if each.error],
        }

    def _collected(self) -> tuple[dict[Any, StreamResult], int]:
        """By the item's number, and how many came again."""
        results: dict[Any, StreamResult] = {}
        duplicates = 0
        dtype = _DTYPES[self._dtype()]
        for result in self._client.embed_stream(
            self._items(),
            ordered=self._stream.get("ordered", False),
            normalize=self._stream.get("normalize", True),
            dtype=dtype,
            timeout_s=self._case["timeout_ms"] / 1000,
        ):
            duplicates += result.key in results
            results[result.key] = result
            if len(results) % _PROGRESS_EVERY == 0:
                self._say({"case": self._case["name"], "progress": len(results)})
            if len(results) == _PROGRESS_EVERY:
                time.sleep(self._stream.get("pause_ms", 0) / 1000)
        return results, duplicates

    def _dtype(self) -> int:
        return types_pb2.Dtype.Value(self._stream.get("dtype", "DTYPE_F32"))

    def _items(self) -> Iterator[StreamItem]:
        for number in range(self._stream["count"]):
            content = self._contents[number % len(self._contents)]
            if "texts" in self._stream:
                yield TextItem(number, content)
            else:
                yield ImageItem(number, self._inputs / content)
