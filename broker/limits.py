"""Bounds and rhythms of a gateway's end, and what of a bound one caller may have."""

from dataclasses import dataclass

GREED = 4
# Of its time, a call may wait so much by prediction: those admitted for the last moment would be computed and
# yet come late, half of them.
PATIENCE = 0.75


def fair_share(limit: int, used: int) -> int:
    """Most that one caller may hold: GREED times what is free (a dynamic threshold, as in network switches).

    One that floods alone gets four fifths, and leaves a fifth to whoever comes; two get four ninths each.
    """
    return GREED * max(0, limit - used)


@dataclass(frozen=True, kw_only=True)
class GatewayLimits:
    """The defaults suit production, tests shorten them."""

    # Entries of one stream, those that wait in this gateway included; above it calls are refused. Counted as
    # entries of ROWS_PER_ENTRY rows.
    queue_max_entries: int = 512
    # Share of the server's memory limit that one stream of entries may fill.
    queue_memory_share: float = 0.6
    # Payload bytes of this gateway's unanswered entries.
    max_in_flight_bytes: int = 512 * 1024 * 1024
    no_worker_timeout_s: float = 10.0
    check_every_s: float = 0.25
    # How long the reply stream outlives a dead gateway.
    reply_ttl_s: float = 60.0
