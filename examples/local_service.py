"""Runs the whole service as a child of a Python program, and stops it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READY = re.compile(r"^Ready: .+ at (\S+)$")
_STOP_TIMEOUT_S = 60.0
_LOG_LINES_SHOWN = 15


class StartFailed(Exception):
    """The service did not start. The message holds the end of its log."""


@contextmanager
def local_service(model: str, folder: Path, *options: str) -> Iterator[str]:
    """The address of `siglip serve` on a free port, ready; stopped at the end.

    `folder` gets the log and, while it runs, the sockets; `options` are more of
    the command's options. Raises StartFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "service.log"
    arguments = ["--model", model, "--listen", "127.0.0.1:0", "--run-dir", str(folder), *options]
    # It ends with this program even if that is killed: the pipe to its standard input then closes.
    command = [sys.executable, "-m", "siglip_cli", "serve", "--end-with-stdin", *arguments]
    # In its own process group, so that Ctrl-C reaches this program only, which then stops it in order.
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            process_group=0,
        )
    try:
        yield _address(process, log)
    finally:
        _stop(process)


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := _READY.match(line.rstrip()):
            return found[1]
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    raise StartFailed("\n".join([f"the service did not start; the end of {log}:", *lines]))


def _stop(process: "subprocess.Popen[str]") -> None:
    with process:  # closes the pipes
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
