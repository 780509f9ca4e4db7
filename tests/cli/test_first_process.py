"""The command as the first process of a container, to which the kernel delivers only handled signals."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import descendants

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
SIGLIP = ["-P", "-m", "siglip_cli"]
AWAY = ["--model", "some/model", "--redis-url", "redis://127.0.0.1:1"]
FETCHING = {
    "download": [*SIGLIP, "download", "some/model"],
    "gateway": [*SIGLIP, "gateway", *AWAY, "--listen", "127.0.0.1:0"],
}


def can_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="no namespaces of processes on this machine")
@pytest.mark.parametrize("command", FETCHING.values(), ids=FETCHING)
def test_sigterm_ends_what_fetches_a_model(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_hub:
        silent_hub.settimeout(30)
        endpoint = f"http://127.0.0.1:{silent_hub.getsockname()[1]}"
        environ = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        process = subprocess.Popen([*UNSHARE, sys.executable, *command], env=environ)
        try:
            with silent_hub.accept()[0]:
                (first,) = descendants(process.pid)
                os.kill(first, signal.SIGTERM)
                # Long before the hub's silence is given up.
                assert process.wait(5) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.wait()
