"""One process of the service: started, watched, started again when it died."""

import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from siglip_cli import exit_codes

log = logging.getLogger("siglip.serve")

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0
"""A child that lived this long is forgiven its earlier deaths."""


class ConfigurationFailed(Exception):
    """A child cannot work as it is configured, or failed on it unforeseen; it has said why on stderr."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"{name} cannot start")
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. The environment may hold secrets, so it is never logged."""

    name: str
    command: list[str]
    environ: dict[str, str] = field(repr=False)

    def with_environ(self, **changed: str) -> "Program":
        return replace(self, environ=self.environ | changed)


class Child:
    """A program that is started as soon as `after` allows, and kept alive from then on by `tend`."""

    def __init__(self, program: Program, stdin: int, *, after: Callable[[], bool] = lambda: True) -> None:
        self.name = program.name
        self.program = program
        self.has_served = False
        self._stdin = stdin
        self._after = after
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._deaths = 0
        self.due_at: float | None = None
        """When it is to be started again (time.monotonic), while it waits."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.due_at = None
        self._started_at = time.monotonic()
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops in order.
        self._process = subprocess.Popen(
            self.program.command, env=self.program.environ, stdin=self._stdin, start_new_session=True
        )

    def tend(self) -> None:
        """Starts it, notices a death, and starts it again when the pause is over.

        Raises ConfigurationFailed, unless this program has served before: then what it complains of
        (a queue that is away, a file being replaced) may pass.
        """
        if self._process is None:
            if self._after():
                self.start()
        elif self.due_at is not None:
            if time.monotonic() >= self.due_at:
                self.start()
        elif (code := self._process.poll()) is not None:
            self._note_death(code)

    def terminate(self) -> None:
        self.due_at = None
        if self._process and self.running:
            self._process.terminate()

    def kill(self) -> None:
        if self._process and self.running:
            self._process.kill()
            self._process.wait()

    def _note_death(self, code: int) -> None:
        if code in (exit_codes.USAGE, exit_codes.DEFECT) and not self.has_served:
            raise ConfigurationFailed(self.name, code)
        now = time.monotonic()
        self._deaths = 0 if now - self._started_at >= STEADY_AFTER_S else self._deaths
        pause_s = min(FIRST_PAUSE_S * 2**self._deaths, LONGEST_PAUSE_S)
        self._deaths += 1
        self.due_at = now + pause_s
        log.warning("%s ended (%s); starting it again in %.2f s", self.name, how_it_ended(code), pause_s)


def how_it_ended(code: int) -> str:
    """A process's return code in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
