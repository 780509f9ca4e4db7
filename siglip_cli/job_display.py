"""How far a job is: a line that is drawn over again on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

import click

from siglip_cli.output import bar

if TYPE_CHECKING:
    from siglip_jobs.options import Progress, Summary

LINE_EVERY_S = 10.0
RATE_OVER_S = 30.0
BAR_CELLS = 20
_ERASE = "\r\x1b[K"


class JobDisplay:
    """Writes to standard error."""

    def __init__(self) -> None:
        self._draws = sys.stderr is not None and sys.stderr.isatty()
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._said_s = time.monotonic()
        self._lock = Lock()
        self._drawn = False

    def show(self, progress: "Progress") -> None:
        now = time.monotonic()
        self._seen.append((now, progress.done))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        if self._draws:
            self._draw(f"{_bar(progress)}{self._line(progress)}")
        elif now - self._said_s >= LINE_EVERY_S:
            self._said_s = now
            self.say(self._line(progress))

    def say(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            click.echo(f"{_ERASE if self._drawn else ''}siglip: {line}", err=True)
            self._drawn = False

    def close(self) -> None:
        """The drawn line stays, and what comes next has a line of its own."""
        with self._lock:
            if self._drawn:
                click.echo(err=True)
            self._drawn = False

    def _draw(self, line: str) -> None:
        with self._lock:
            click.echo(f"{_ERASE}{line}", err=True, nl=False)
            self._drawn = True

    def _line(self, progress: "Progress") -> str:
        rows = progress.before + progress.done
        rate = self._rate()
        parts = [f"{rows:,} of {progress.total:,} rows" if progress.total else f"{rows:,} rows"]
        parts.append(f"{rate:,.0f}/s")
        if progress.total and rate and progress.total > rows:
            parts.append(f"{duration((progress.total - rows) / rate)} left")
        if failed := progress.failed_before + progress.failed:
            parts.append(f"{failed:,} failed")
        return ", ".join(parts)

    def _rate(self) -> float:
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def told(summary: "Summary", out: str) -> str:
    """What a job came to, in a line."""
    parts = [f"{summary.rows:,} rows in {out}"]
    if summary.done_now < summary.rows:
        parts.append(f"{summary.done_now:,} of them now")
    if summary.failed:
        parts.append(f"{summary.failed:,} of them failed")
    if summary.duplicates:
        parts.append(f"{summary.duplicates:,} left out for the id of an earlier one")
    rate = summary.done_now / summary.seconds if summary.seconds else 0.0
    return f"{', '.join(parts)}; {duration(summary.seconds)}, {rate:,.0f}/s"


def duration(seconds: float) -> str:
    """The two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds % 60:.0f} s"


def _bar(progress: "Progress") -> str:
    if not progress.total:
        return ""
    share = min(1.0, (progress.before + progress.done) / progress.total)
    return f"{share:4.0%} {bar(share, BAR_CELLS):{BAR_CELLS}} "
