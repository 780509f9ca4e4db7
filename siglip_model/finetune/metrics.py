"""metrics.jsonl: one line a step and one an evaluation."""

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


class Metrics:
    def __init__(self, folder: Path, done: int) -> None:
        """Lines of steps after `done`, which will be taken again, are dropped."""
        self.path = folder / METRICS
        kept = [line for line in self._lines() if _step(line) <= done] if done else []
        self.path.write_text("".join(kept), encoding="utf-8")

    def write(self, **fields: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def _lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _step(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
