"""How long a call may take: what its client asks for, up to the longest; without a wish, the default."""

import math
from dataclasses import dataclass

from gateway.errors import StartError
from siglip_settings import GatewaySettings

# gRPC rounds a timeout up to three digits, so a client gives up when we still see some of it left.
_ROUNDING = 0.01
_ON_THE_WAY_S = 0.02


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Both in seconds."""

    default_s: float
    longest_s: float

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Deadlines":
        """Raises StartError when the default is above the longest."""
        default_s, longest_s = settings.default_deadline_s, settings.max_deadline_s
        if default_s is not None and default_s > longest_s:
            raise StartError(
                f"--default-deadline-s is {default_s:g}; it may be at most --max-deadline-s, {longest_s:g}"
            )
        return cls(longest_s if default_s is None else default_s, longest_s)

    def own_s(self, left_s: float | None) -> float:
        """When the server itself ends a call; `left_s` is what its client gives it, None: no deadline."""
        return self.default_s if left_s is None else self.longest_s


def given_up_in_time(allowed_s: float, left_s: float) -> bool:
    """Whether a client that leaves with so much left, of what it gave us, leaves before its own deadline."""
    if left_s == math.inf:  # a stream without a deadline
        return True
    return left_s > _ON_THE_WAY_S + _ROUNDING * allowed_s
