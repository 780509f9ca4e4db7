"""HTTP/1.1 with connections that are kept: as little of a client as drives other servers."""

import asyncio
import json


class HttpError(Exception):
    """A status other than 200."""


class Connections:
    """As many as calls are in flight, each used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: bytes, content_type: str) -> bytes:
        """The body of the answer. Raises HttpError, OSError."""
        free = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = free
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, answer = await _answer(reader)
        self._free.append(free)
        if status != 200:
            raise HttpError(f"{status}: {answer[:200].decode(errors='replace')}")
        return answer

    async def post_json(self, path: str, value: object) -> bytes:
        return await self.post(path, json.dumps(value).encode(), "application/json")

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    length = next(int(line[15:]) for line in head if line.lower().startswith("content-length:"))
    return int(head[0].split()[1]), await reader.readexactly(length)
