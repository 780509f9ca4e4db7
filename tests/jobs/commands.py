"""`siglip embed` as a process that is fed, watched, stopped and killed."""

import json
import signal
import subprocess
from pathlib import Path
from typing import IO

from tests.cli.processes import wait_for
from tests.cli.service import SIGLIP, clean_environ


class Embedding:
    """Lines of standard input, embedded into a folder as they are given."""

    def __init__(self, address: str, out: Path, *options: str | Path) -> None:
        command = [*SIGLIP, "embed", "-", "--out", out, "--address", address, *options]
        self.out = out
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environ(),
        )

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin
        return self.process.stdin

    def give(self, lines: list[str]) -> None:
        self.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.stdin.flush()

    def wait_for_parts(self, count: int) -> None:
        wait_for(lambda: self.process.poll() is not None or written_parts(self.out) >= count, 30)
        assert self.process.poll() is None, self.end()

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit code and standard error, after a signal or the end of its input."""
        if number:
            self.process.send_signal(number)
        with self.process:
            _, told = self.process.communicate(timeout=60)
        assert b"Traceback" not in told, told.decode()
        return self.process.returncode, told.decode()


def written_parts(out: Path) -> int:
    try:
        return len(json.loads((out / "manifest.json").read_bytes())["parts"])
    except FileNotFoundError:
        return 0
