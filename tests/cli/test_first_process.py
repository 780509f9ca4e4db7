"""The command as the first process of a container, to which the kernel delivers only handled signals."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import descendants, wait_for

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def can_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def opened_by_its_reader(pipe: Path) -> int | None:
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None  # nobody reads yet


@pytest.mark.skipif(not can_unshare(), reason="no namespaces of processes on this machine")
def test_sigterm_ends_a_worker_that_still_loads_its_model(tmp_path: Path) -> None:
    shutil.copytree(Path("checkpoints/shapes"), tmp_path, dirs_exist_ok=True)
    pipe = tmp_path / "model.safetensors"
    pipe.unlink()
    os.mkfifo(pipe)  # whose reader waits for as long as we like
    worker = [sys.executable, "-m", "siglip_cli", "worker", "--tower", "text", "--model", str(tmp_path)]
    process = subprocess.Popen([*UNSHARE, *worker, "--redis-url", "redis://127.0.0.1:1"])
    try:
        writer = wait_for(lambda: opened_by_its_reader(pipe), 20)
        (first,) = descendants(process.pid)
        os.kill(first, signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        os.close(writer)
    finally:
        process.kill()
        process.wait()
