"""What a part of the service can do alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """`rate`: items a second with all cores; `cpu_us`: of one item, in all processes that took part."""

    rate: float
    cpu_us: float
    told: str = ""

    def as_json(self) -> dict[str, Any]:
        return vars(self)


def mean(one: Unit, other: Unit) -> Unit:
    """Of the same part, measured twice."""
    return Unit((one.rate + other.rate) / 2, (one.cpu_us + other.cpu_us) / 2, other.told)


def summed(cpu_us: Mapping[str, float]) -> float:
    return sum(cpu_us.values())
