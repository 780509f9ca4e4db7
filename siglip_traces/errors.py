"""What can go wrong with traces: only the start."""


class TracesError(Exception):
    """Traces cannot be sent as they are configured. The message is one line."""
