"""Sends spans in the background. A collector that is slow or away costs spans, never calls."""

import logging
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from siglip_traces.errors import TracesError

log = logging.getLogger(__name__)

PATH = "/v1/traces"


def provider(process: str, endpoint: str, sample_ratio: float) -> TracerProvider:
    """Spans of this process go to `endpoint`; of calls without a trace of their own the ratio is traced.

    How often, how long it tries and with which headers the library reads from OTEL_* variables.
    Raises TracesError.
    """
    url = _url(endpoint)
    # It would tell of each batch that fails, several times.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    made = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create(
            {"service.name": f"siglip-{process}", "service.version": _version(), "process.pid": os.getpid()}
        ),
        # At the exit it would wait for the collector.
        shutdown_on_exit=False,
    )
    exporter = _SaysOnce(OTLPSpanExporter(url), urlsplit(url).hostname or "")
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


class _SaysOnce(SpanExporter):
    """One line when spans begin to be lost, one when they arrive again."""

    def __init__(self, exporter: SpanExporter, host: str) -> None:
        self._exporter = exporter
        self._host = host
        self._losing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        losing = result is not SpanExportResult.SUCCESS
        if losing and not self._losing:
            log.warning("the collector of traces at %s does not take spans; they are dropped", self._host)
        elif self._losing and not losing:
            log.warning("the collector of traces at %s takes spans again", self._host)
        self._losing = losing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _url(endpoint: str) -> str:
    """The collector's address, with the usual path where none is given."""
    wrong = TracesError(
        "--traces-endpoint must be http://host:port or https://host:port, with or without a path"
    )
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    return endpoint if parts.path.strip("/") else parts._replace(path=PATH).geturl()


def _version() -> str:
    try:
        return version("siglip")
    except PackageNotFoundError:
        return "unknown"
