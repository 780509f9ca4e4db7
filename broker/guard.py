"""Runs a server as its child, and ends it and its folder when the process that started the guard is gone.

A script, run in its own interpreter: `python guard.py FOLDER SERVER ARGUMENT...`. Its standard input is a
pipe whose other end the owner holds; the end of that pipe, however it came about, means: stop.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time

POLL_MS = 200
STOP_TIMEOUT_S = 3.0
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """In the child, before exec: Linux kills it should the guard itself be killed."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def wait_for_end(server: "subprocess.Popen[bytes]", owner: int) -> None:
    """Returns when the server has ended, the pipe is closed or the owner is gone."""
    pipe = select.poll()
    pipe.register(0, select.POLLIN | select.POLLHUP)
    while server.poll() is None and os.getppid() == owner:
        if pipe.poll(POLL_MS):
            return


def stop(server: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then SIGKILL."""
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def remove(folder: str) -> None:
    """A server that is just dying may still write: try for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110 (pathlib would double the guard's start)
            return
        time.sleep(0.05)


def main(folder: str, command: list[str]) -> int:
    """Exit status of the server."""
    owner, me = os.getppid(), os.getpid()
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: os.close(0))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: die_with_parent(me))
    try:
        wait_for_end(server, owner)
    finally:
        stop(server)
        remove(folder)
    return server.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
