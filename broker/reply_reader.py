"""Replies -> gateway: reads its reply stream from where it left off, and trims what it has read."""

import logging
from typing import Any

import redis.asyncio
from redis.exceptions import NoPermissionError

from broker import wire
from broker.connection import AWAY, BLOCK_MS
from broker.held import Held, wait_for_event
from broker.keys import REPLIES_FIELD

READ_COUNT = 64
RETRY_S = 0.1
START = "0-0"

log = logging.getLogger(__name__)


class ReplyReader:
    """Owns the position in the stream: a broken connection loses no reply. One task runs `run`."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        stream: str,
        held: Held,
    ) -> None:
        self._client = client
        self._stream = stream
        self._held = held
        self._last = START
        # Something unforeseen goes wrong, time after time; said once.
        self._failing = False

    def start_over(self) -> None:
        """After Redis lost its data: the ids of a new stream may be smaller."""
        self._last = START

    async def run(self) -> None:
        """Until closing. A flag ends it, for a cancelled read could be swallowed or lose a reply."""
        while not self._held.closing.is_set():
            generation = self._held.generation
            try:
                entries = await self._read()
                if entries and generation == self._held.generation:
                    # Before anything is done with them: what goes wrong must not come again.
                    self._last = entries[-1][0].decode()
                self._resolve(entries)
            except (*AWAY, NoPermissionError):
                await self._pause()
            except Exception:
                if not self._failing:
                    log.exception("replies cannot be read")
                self._failing = True
                await self._pause()
            else:
                self._failing = False

    async def _pause(self) -> None:
        self._held.lost_touch()
        await wait_for_event(self._held.closing, RETRY_S)

    async def _read(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Trimming and reading are one round trip."""
        pipe = self._client.pipeline(transaction=False)
        if self._last != START:
            pipe.xtrim(self._stream, minid=_after(self._last), approximate=False)
        pipe.xread({self._stream: self._last}, count=READ_COUNT, block=BLOCK_MS)
        answer: Any = (await pipe.execute())[-1]
        return [entry for _, entries in answer or [] for entry in entries]

    def _resolve(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for _, fields in entries:
            try:
                replies = wire.unpack_replies(fields.get(REPLIES_FIELD, b""))
            except ValueError:
                self._held.stats["unreadable_replies"] += 1
                continue
            for reply in replies:
                self._held.resolve(reply)


def _after(entry_id: str) -> str:
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{int(number) + 1}"
