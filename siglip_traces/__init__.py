"""One trace of a call across gateway, queue and workers, sent to a collector by OpenTelemetry.

Off unless an endpoint is set; OpenTelemetry is imported only then.
"""

from typing import TYPE_CHECKING

from siglip_traces.errors import TracesError

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

__all__ = ["TracesError", "start_traces"]


def start_traces(process: str, endpoint: str | None, sample_ratio: float) -> "Traces | None":
    """None without an endpoint. `process` becomes the service's name. Raises TracesError."""
    if endpoint is None:
        return None
    try:
        from siglip_traces import sending, spans
    except ModuleNotFoundError:
        raise TracesError("--traces-endpoint needs OpenTelemetry: pip install 'siglip[traces]'") from None
    return spans.Traces(sending.provider(process, endpoint, sample_ratio))
