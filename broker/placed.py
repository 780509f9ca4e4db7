"""Connections that look for their server at each connect, and leave it when it is the wrong one by now."""

import asyncio
from typing import Any

import redis.asyncio.connection
import redis.connection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from broker.places import Address, Place
from broker.rereading import RereadingConnection

# What a server says that does not answer for our keys any more, not yet, or not for all of them.
ELSEWHERE = (AskError, ClusterDownError, ReadOnlyError, TryAgainError)
# The same from a server that stops being the primary while we wait, or that has lost sight of its replicas.
ELSEWHERE_WORDS = ("UNBLOCKED", "NOREPLICAS")


def _is_elsewhere(error: ResponseError) -> bool:
    return isinstance(error, ELSEWHERE) or str(error).startswith(ELSEWHERE_WORDS)


class _Placed:
    """What both kinds of connections have in common."""

    host: str
    port: int

    def __init__(self, *, place: Place, **options: Any) -> None:
        super().__init__(**options)
        self._place = place
        # Where this connection has proved right; None while it connects.
        self._at: Address | None = None

    def _arrive(self, reply: object) -> None:
        address = Address(self.host, self.port)
        self._place.judge(reply)
        self._place.settle(address)
        self._at = address

    @property
    def _is_left(self) -> bool:
        return self._at not in (None, self._place.address)

    def _gone(self, error: ResponseError | None = None) -> ConnectionError:
        why = f"{type(error).__name__}: {error}" if error else "another server does"
        return ConnectionError(f"{self.host}:{self.port} does not answer for this queue now: {why}")


class PlacedConnection(_Placed, redis.connection.Connection):
    """For threads."""

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        self._at = None
        self.host, self.port = self._place.find()
        super().connect_check_health(check_health, retry_socket_connect)
        try:
            self._arrive(self._prove())
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.is_connected and self._is_left:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise self._gone()
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise self._gone(error) from None

    def _prove(self) -> object:
        self.send_command(*self._place.proof, check_health=False)  # type: ignore[no-untyped-call]
        try:
            return super().read_response()
        except ResponseError as error:
            return error


class PlacedSSLConnection(PlacedConnection, redis.connection.SSLConnection):
    """The same over TLS."""


class AsyncPlacedConnection(_Placed, redis.asyncio.connection.Connection):
    """For tasks. Looking is done by a thread: it is rare, and a thread's code needs no second version."""

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        if self.is_connected:
            return
        self._at = None
        self.host, self.port = await asyncio.to_thread(self._place.find)
        await super().connect_check_health(check_health, retry_socket_connect)
        try:
            self._arrive(await self._prove())
        except BaseException:
            await self.disconnect(nowait=True)
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.is_connected and self._is_left:
            await self.disconnect(nowait=True)
            raise self._gone()
        await super().send_packed_command(command, check_health)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            await self.disconnect(nowait=True)
            raise self._gone(error) from None

    async def _prove(self) -> object:
        await self.send_command(*self._place.proof, check_health=False)
        try:
            return await super().read_response()
        except ResponseError as error:
            return error


class AsyncPlacedSSLConnection(AsyncPlacedConnection, RereadingConnection):
    """The same over TLS."""
