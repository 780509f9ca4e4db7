"""Spans: stretches of a call's time. Nothing that a user wrote goes into their attributes."""

import threading
from collections.abc import Mapping
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from siglip_traces import context
from siglip_traces.context import Parent

Attributes = Mapping[str, str | int | float]

CLOSE_TIMEOUT_S = 2.0


class Span:
    """Ends with its `with` block; an exception marks it as failed, by the name of its class alone."""

    def __init__(self, traces: "Traces", span: OtelSpan) -> None:
        self._traces = traces
        self._span = span

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def context(self) -> str:
        """For another process, which goes on from here: see `Traces.parent`."""
        own = self._span.get_span_context()
        return context.write(
            Parent(own.trace_id, own.span_id, own.trace_flags, tuple(own.trace_state.items()))
        )

    def child(self, name: str) -> "Span":
        """A part of this span's time, from now on."""
        return self._traces.start(name, set_span_in_context(self._span, Context()))

    def end(self, attributes: Attributes, failed: str = "") -> None:
        """`failed` says why, in a word."""
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR, failed))
        self._span.end()

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end({}, kind.__name__ if kind else "")


class Traces:
    """Makes the spans of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("siglip")

    def begin(
        self, name: str, traceparent: object, tracestate: object, attributes: Attributes
    ) -> Span | None:
        """The span of a call that arrives, in the caller's trace if it has one; None: it is not traced."""
        above = context.parent(traceparent, tracestate)
        within = _context_of(above) if above else Context()
        span = self._tracer.start_span(name, within, SpanKind.SERVER, attributes)
        return Span(self, span) if span.is_recording() else None

    def start(self, name: str, within: Context) -> Span:
        """A span that begins now, inside this process."""
        return Span(self, self._tracer.start_span(name, within))

    def parent(self, trace_context: str) -> Context | None:
        """Where another process's span goes on; None when it says nothing that can be read."""
        found = context.read(trace_context)
        return _context_of(found) if found else None

    def record(self, name: str, within: Context, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """A span that is over. Times are nanoseconds since the epoch."""
        span = self._tracer.start_span(name, within, attributes=attributes, start_time=start_ns)
        span.end(max(start_ns, end_ns))

    def close(self) -> None:
        """Sends what is left, for at most CLOSE_TIMEOUT_S."""
        # The library waits for a collector as long as it likes.
        last = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        last.start()
        last.join(CLOSE_TIMEOUT_S)


def _context_of(found: Parent) -> Context:
    span = SpanContext(
        found.trace_id, found.span_id, True, TraceFlags(found.flags), TraceState(list(found.state))
    )
    return set_span_in_context(NonRecordingSpan(span), Context())
