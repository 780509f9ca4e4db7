"""What one stream has read and not yet answered: the other end's credit, and the bound of our memory."""

import asyncio


class Window:
    def __init__(self, max_items: int, max_bytes: int) -> None:
        self.max_items, self.max_bytes = max_items, max_bytes
        self.items = self.bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def room(self) -> None:
        """Waits until another message may be read. One message may pass the bounds, by its own size."""
        await self._has_room.wait()

    def hold(self, items: int, size: int) -> None:
        """So many items more, of `size` bytes in all; negative when they are answered."""
        self.items += items
        self.bytes += size
        if self.items < self.max_items and self.bytes < self.max_bytes:
            self._has_room.set()
        else:
            self._has_room.clear()
