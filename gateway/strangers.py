"""Methods that gRPC's own services have, and that anybody may call: health.

Their messages are a few bytes. They are read when asked for, in a short time, and few slow ones at once, so
that strangers cannot have this process hold large ones.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from gateway.access import peer_name
from gateway.arrivals import Arrivals
from gateway.errors import GatewayError, TimeIsUp
from gateway.status import failure_of, trailers
from gateway.wire import parsed

READ_TIMEOUT_S = 5.0
MAX_SLOW_MESSAGES = 4

Reply = TypeVar("Reply")


class Strangers:
    def __init__(self) -> None:
        self._arrivals = Arrivals(MAX_SLOW_MESSAGES)

    def wrap(self, handler: Any) -> Any:
        """Reflection, whose requests are streams, reads them one at a time by itself."""
        parse, write = handler.request_deserializer, handler.response_serializer

        async def answer(_: object, context: Any) -> Any:
            return await handler.unary_unary(await self._request(parse, context), context)

        async def follow(_: object, context: Any) -> None:
            request = await self._request(parse, context)
            async for reply in handler.unary_stream(request, context):
                await context.write(reply)

        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(answer, None, write)
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(follow, None, write)
        return handler

    async def _request(self, parse: Callable[[bytes], Any], context: Any) -> Any:
        try:
            with self._arrivals.one(peer_name(context.peer())):
                return parsed(parse, await _in_time(context.read()))
        except GatewayError as error:
            failure = failure_of(error)
            await context.abort(failure.code, failure.message, trailers(failure, error, ""))


async def _in_time(message: Awaitable[Reply]) -> Reply:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await message
    except TimeoutError:
        raise TimeIsUp(READ_TIMEOUT_S) from None
