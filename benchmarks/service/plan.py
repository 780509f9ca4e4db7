"""What is measured: for the demo checkpoint everything, for base-patch16-224 what a large model changes."""

from dataclasses import dataclass

IN_FLIGHT = (1, 8, 32, 64)
SHARES = (0.3, 0.6, 0.9)
"""Of the highest rate of the closed loop, for the open one."""


@dataclass(frozen=True)
class Cell:
    """One measurement of our service. `in_flight` of a closed loop; else `share` of its highest rate."""

    kind: str
    stream: bool
    in_flight: int = 0
    share: float = 0.0

    @property
    def series(self) -> str:
        noun = {"text": "texts", "image": "images", "classify": "classification"}[self.kind]
        return f"{noun}, {'EmbedStream' if self.stream else 'one a call'}"

    @property
    def load(self) -> str:
        return f"{self.in_flight} in flight" if self.in_flight else f"{self.share:.0%} of the highest rate"


SERIES = (("text", False), ("image", False), ("classify", False), ("text", True), ("image", True))


def grid() -> list[Cell]:
    """The closed loops of a series come before its open ones, which follow from them."""
    return [
        cell
        for kind, stream in SERIES
        for cell in (
            *(Cell(kind, stream, in_flight=count) for count in IN_FLIGHT),
            *(Cell(kind, stream, share=share) for share in SHARES),
        )
    ]


def large_grid() -> list[Cell]:
    return [Cell(kind, stream, in_flight=count) for kind, stream in SERIES[:3] for count in (1, 8)]
