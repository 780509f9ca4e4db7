"""Wraps every method of ours: request id, deadline, parsing, errors to statuses, one log line.

The methods behind it get the parsed request and a `Call`, and raise; they never see gRPC.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import grpc

from broker import JOB_CLASSES, JobClass, QueueFull
from gateway import traces
from gateway.access import KEY, Access, Caller
from gateway.arrivals import Arrivals
from gateway.call import Call, request_id_from
from gateway.crowds import refuse_crowd
from gateway.deadlines import Deadlines, given_up_in_time
from gateway.errors import InvalidRequest, Overloaded, Stopping, TimeIsUp, Violation, shown
from gateway.memory import Trimmer
from gateway.metrics import HowEnded, Metrics
from gateway.status import REQUEST_ID_KEY, Failure, failure_of, trailers
from gateway.strangers import Strangers
from gateway.wire import Wire, parsed

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

log = logging.getLogger(__name__)

# Generic for type checkers only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata: TypeAlias = dict[str, str | bytes]
Reply = TypeVar("Reply")
PRIORITY_KEY = "siglip-priority"
HOW_ENDED: dict[str, HowEnded] = {"DEADLINE_EXCEEDED": "deadline", "CANCELLED": "cancelled"}
_PREFIX = "/siglip.v1."
# What an operator should look at; everything else is the caller's affair.
_SERVER_SIDE = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION,
}


class CallInterceptor(grpc.aio.ServerInterceptor):
    def __init__(
        self,
        deadlines: Deadlines,
        access: Access,
        arrivals: Arrivals,
        metrics: Metrics,
        most_fields: int,
        traces: "Traces | None" = None,
    ) -> None:
        self._deadlines = deadlines
        self._access = access
        self._arrivals = arrivals
        self._metrics = metrics
        self._most_fields = most_fields
        self._traces = traces
        self._strangers = Strangers()
        self._trimmer = Trimmer()
        self._wrapped: dict[str, Handler] = {}
        self._running = 0
        self._all_done = asyncio.Event()
        self._stopping = False

    async def drain(self, timeout_s: float) -> None:
        """Refuses calls from now on, and waits for those in work.

        The port stays open meanwhile: gRPC, when it stops, cancels calls that arrive at that moment, and
        clients do not try those again.
        """
        self._stopping = True
        if self._running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_done.wait(), timeout_s)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        if wrapped := self._wrapped.get(method):
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if not method.startswith(_PREFIX):
            return self._wrapped.setdefault(method, self._strangers.wrap(handler))
        return self._wrapped.setdefault(method, self._wrap(method.removeprefix("/"), handler))

    def _wrap(self, method: str, handler: Any) -> Handler:
        write = handler.response_serializer

        def parse(body: bytes) -> Any:
            refuse_crowd(body, self._most_fields)
            return handler.request_deserializer(body)

        async def answer(_: object, context: Context) -> bytes:
            async def run(call: Call) -> bytes:
                # A client's own shorter deadline cancels this task without our help.
                own = asyncio.timeout(call.own_s)
                size = 0
                try:
                    async with own:
                        with self._arrivals.one(call.caller.name):
                            body = await context.read()
                        size = len(body) if isinstance(body, bytes) else 0
                        request = parsed(parse, body)
                        del body  # not to be held beside what was made of it
                        reply: bytes = write(await handler.unary_unary(request, call))
                        return reply
                except Exception as error:
                    if own.expired():
                        raise TimeIsUp(call.own_s) from error
                    raise
                finally:
                    self._trimmer.after(size)

            own_s = self._deadlines.own_s(context.time_remaining())
            return await self._answered(_call(method, context, own_s, "interactive"), context, run)

        async def converse(_: object, context: Context) -> None:
            async def run(call: Call) -> None:
                await handler.stream_stream(Wire(context, parse, write, self._trimmer), call)

            # A stream may last: each of its items has a time of its own.
            await self._answered(_call(method, context, math.inf, "batch"), context, run)

        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(converse)
        # On the wire a stream of one message is what a single one is. But its body arrives only when it is
        # asked for: strangers cannot fill our memory, and a slow body has no more time than its call.
        # Without a deserializer it comes as bytes: what cannot be parsed is ours to answer.
        return grpc.stream_unary_rpc_method_handler(answer)

    async def _answered(self, call: Call, context: Context, run: Callable[[Call], Awaitable[Reply]]) -> Reply:
        """Everything around a call; what `run` raises becomes its status."""
        # Of what comes twice the first counts.
        metadata = dict(reversed(tuple(context.invocation_metadata() or ())))
        call.request_id = request_id_from(metadata.get(REQUEST_ID_KEY))
        self._running += 1
        try:
            if self._stopping:
                raise Stopping
            call.caller = self._caller(context, metadata.get(KEY))
            if self._traces is not None:
                traces.begin(self._traces, call, metadata)
            call.job_class = _job_class(metadata.get(PRIORITY_KEY, call.job_class))
            reply = await run(call)
        except asyncio.CancelledError:
            in_time = given_up_in_time(call.deadline - call.started, call.left_s())
            self._ended(call, "CANCELLED" if in_time else "DEADLINE_EXCEEDED")
            raise
        except Exception as error:
            await self._refuse(error, call, context)
        finally:
            self._running -= 1
            if self._stopping and not self._running:
                self._all_done.set()
        # A client whose time is over reads no reply.
        self._ended(call, "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "OK")
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        return reply

    async def _refuse(self, error: Exception, call: Call, context: Context) -> NoReturn:
        failure = failure_of(error)
        self._ended(call, failure.code.name, failure, error)
        try:
            await context.abort(failure.code, failure.message, trailers(failure, error, call.request_id))
        except grpc.aio.InternalError:
            # The caller's own deadline has ended the call at this very moment: nobody listens any more.
            raise asyncio.CancelledError from None

    def _ended(
        self, call: Call, code: str, failure: Failure | None = None, error: Exception | None = None
    ) -> None:
        _log(call, code, failure, error)
        reason = failure.reason if failure else None
        may_last = call.own_s == math.inf
        self._metrics.call(call.method, code, reason, None if may_last else call.elapsed_us() / 1e6)
        if isinstance(error, (QueueFull, Overloaded)):
            self._metrics.refused(error.wall)
        if code in HOW_ENDED:
            self._metrics.ended(HOW_ENDED[code], call.waits_for())
        traces.end(call, code, reason)

    def _caller(self, context: Context, given: str | bytes | None) -> Caller:
        """Raises Unauthenticated."""
        names = context.auth_context().get("x509_common_name") or ()
        certified = next((name.decode(errors="replace") for name in names), None)
        return self._access.caller(given, context.peer(), certified)


def _call(method: str, context: Context, own_s: float, job_class: JobClass) -> Call:
    """`own_s`: seconds after which the server itself ends it."""
    now, left_s = time.monotonic(), context.time_remaining()
    allowed_s = own_s if left_s is None else min(left_s, own_s)
    return Call(method, "", deadline=now + allowed_s, own_s=own_s, job_class=job_class, started=now)


def _job_class(given: str | bytes) -> JobClass:
    """Raises InvalidRequest."""
    for job_class in JOB_CLASSES:
        if given == job_class:
            return job_class
    message = f"{shown(str(given))}; it must be {' or '.join(JOB_CLASSES)}"
    raise InvalidRequest([Violation(f"metadata {PRIORITY_KEY}", "PRIORITY_UNKNOWN", message)])


def _log(call: Call, code: str, failure: Failure | None = None, error: Exception | None = None) -> None:
    """One line for each call, without anything a caller wrote; a traceback when the fault is ours."""
    fields: dict[str, str | int | float] = {
        "method": call.method,
        "code": code,
        "request_id": call.request_id,
        "caller": call.caller.name,
        "items": call.items,
        "total_ms": round(call.elapsed_us() / 1000, 3),
    }
    if call.model:
        fields["model"] = call.model
    if call.span is not None:
        fields["trace_id"] = call.span.trace_id
    if failure:
        fields["reason"] = failure.reason
    level = logging.INFO
    ours = failure is not None and failure.code is grpc.StatusCode.INTERNAL
    if failure and failure.code in _SERVER_SIDE:
        level = logging.ERROR if ours else logging.WARNING
    if log.isEnabledFor(level):
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        log.log(level, "call %s", text, extra={"fields": fields}, exc_info=error if ours else None)
