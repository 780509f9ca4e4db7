"""What is measured: so many workers of one speed behind so many gateways and shards."""

from dataclasses import dataclass, field

BATCH_ROWS, BATCH_S = 16, 0.05
RATE_OF_ONE = BATCH_ROWS / BATCH_S


@dataclass
class Step:
    """`batch_s` 0: workers that take no time, so that what is around them is what limits."""

    workers: int
    gateways: int = 1
    shards: int = 1
    batch_s: float = BATCH_S
    rate: float = 0.0
    """Texts a second."""
    cores: dict[str, float] = field(default_factory=dict)
    """Busy, by process."""

    @property
    def transport_cores(self) -> float:
        """What is neither model nor client."""
        return self.cores.get("gateway", 0.0) + self.cores.get("queue", 0.0)


def plan() -> list[Step]:
    return [
        *(Step(workers) for workers in (1, 2, 4, 8)),
        *(Step(8, gateways) for gateways in (2, 4)),
        Step(8, 2, shards=2),
        *(Step(2, gateways, batch_s=0.0) for gateways in (1, 2)),
    ]


def share(step: Step, one: Step) -> float:
    """Of so many times what one worker does."""
    return step.rate / (step.workers * one.rate)
