"""The span of one call: taken from its metadata, ended with its status."""

from typing import TYPE_CHECKING

from gateway.call import Call
from gateway.errors import StartError
from siglip_settings import GatewaySettings
from siglip_traces import TracesError, start_traces

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

# What OpenTelemetry counts as a server's fault.
_FAULTS = {"DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED"}


def start(settings: GatewaySettings) -> "Traces | None":
    """None when they are off. Raises StartError."""
    try:
        return start_traces("gateway", settings.traces_endpoint, settings.traces_sample_ratio)
    except TracesError as error:
        raise StartError(str(error)) from error


def begin(traces: "Traces", call: Call, metadata: dict[str, str | bytes]) -> None:
    """From now on the call has a span, if it is traced at all."""
    attributes = {"rpc.system": "grpc", "rpc.method": call.method, "siglip.request_id": call.request_id}
    call.span = traces.begin(call.method, metadata.get("traceparent"), metadata.get("tracestate"), attributes)


def end(call: Call, code: str, reason: str | None) -> None:
    """The call has ended."""
    if call.span is None:
        return
    attributes: dict[str, str | int] = {
        "rpc.response.status_code": code,
        "siglip.items": call.items,
        "siglip.priority": call.job_class,
    }
    if reason:
        attributes["siglip.reason"] = reason
    call.span.end(attributes, code if code in _FAULTS else "")
