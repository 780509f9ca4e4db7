"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "skipped", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `remedy` says what to do about a warning or a problem."""

    level: Level
    what: str
    text: str
    remedy: str = ""
