"""`siglip` as its users run it: real commands, a real service."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.processes import alive, descendants, killed_afterwards, wait_for

SIGLIP = [sys.executable, "-P", "-m", "siglip_cli"]
START_TIMEOUT_S = 60.0


def clean_environ(**extra: str) -> dict[str, str]:
    """Without settings of the shell that runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGLIP_")} | extra


def siglip(
    *arguments: str | Path,
    stdin: bytes = b"",
    environ: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 100,
) -> "subprocess.CompletedProcess[str]":
    """Runs one command to its end."""
    done = subprocess.run(
        [*SIGLIP, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=environ or clean_environ(),
        timeout=timeout_s,
        cwd=cwd,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Service:
    """A running `siglip serve`; collects what it prints."""

    def __init__(self, *arguments: str | Path, environ: dict[str, str] | None = None) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.process = subprocess.Popen(
            [*SIGLIP, "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ or clean_environ(),
        )
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in ((self.out, self.process.stdout), (self.err, self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        """Waits until it is ready."""
        wait_for(lambda: self.out or self.process.poll() is not None, START_TIMEOUT_S)
        assert self.out, "".join(self.err)
        return self.out[0].rpartition(" at ")[2].strip()

    def child(self, part: str) -> int:
        """The process whose command line holds `part`."""
        [pid] = [pid for pid, line in descendants(self.pid).items() if part in line]
        return pid

    def end(self, number: int) -> int:
        """Sends a signal and waits; every process must be gone."""
        family = {self.pid, *descendants(self.pid)}
        with killed_afterwards(family):
            os.kill(self.pid, number)
            code = self.process.wait(60)
            wait_for(lambda: not [pid for pid in family if alive(pid)], 10)
        self.join()
        return code

    def join(self) -> None:
        """What it printed is complete."""
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@contextmanager
def serving(*arguments: str | Path, environ: dict[str, str] | None = None) -> Iterator[Service]:
    service = Service(*arguments, environ=environ)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.end(signal.SIGTERM)
