"""The messages of one stream, read and written one at a time; its method never sees gRPC."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest, Violation
from gateway.memory import Trimmer

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Wire(Generic[Request, Reply]):
    def __init__(
        self,
        context: "grpc.aio.ServicerContext[Any, Any]",
        parse: Callable[[bytes], Request],
        write: Callable[[Reply], bytes],
        trimmer: Trimmer,
    ) -> None:
        self._context, self._parse, self._write, self._trimmer = context, parse, write, trimmer

    async def read(self) -> Request | None:
        """The next message; None when the client sends no more. Raises InvalidRequest."""
        body = await self._context.read()
        if not isinstance(body, bytes):
            return None
        self._trimmer.after(len(body))
        return parsed(self._parse, body)

    async def write(self, reply: Reply) -> None:
        """Waits until the client has room for it."""
        await self._context.write(self._write(reply))


def parsed(parse: Callable[[bytes], Request], body: Any) -> Request:
    """`body` is no bytes when none came. Raises InvalidRequest."""
    if not isinstance(body, bytes):
        raise InvalidRequest([Violation("request", "REQUEST_MISSING", "the call has no message")])
    try:
        return parse(body)
    except DecodeError:
        message = f"{len(body)} bytes that are not this request message"
        raise InvalidRequest([Violation("request", "REQUEST_UNREADABLE", message)]) from None
