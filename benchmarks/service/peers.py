"""Other servers on this machine, from the environment that `make bench-peers` makes.

Each is stopped (SIGSTOP) whenever it is not its turn, so that it takes nothing from the others.
"""

import base64
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service import inputs
from benchmarks.service.http import Connections
from benchmarks.service.load import Call

ENVIRONMENT = Path(".venv-peers/bin")
START_TIMEOUT_S = 120.0
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
NAIVE, INFINITY = "transformers + FastAPI", "Infinity"


@dataclass
class Peer:
    name: str
    calls: Mapping[str, Call]
    """One request with one `text` or `image`."""
    process: "subprocess.Popen[bytes]"
    connections: Connections

    @contextmanager
    def turn(self) -> Iterator[None]:
        """It runs while the block does."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            self.connections.close()
            os.killpg(self.process.pid, signal.SIGSTOP)


@contextmanager
def running(checkpoint: Path) -> Iterator[tuple[list[Peer], dict[str, str]]]:
    """Those that are installed and start, and by name why others are not there."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        peers = []
        for name, start in (NAIVE, naive), (INFINITY, infinity):
            try:
                peers.append(stack.enter_context(start(checkpoint)))
            except PeerMissing as error:
                missing[name] = str(error)
        yield peers, missing


class PeerMissing(Exception):
    """Why a peer does not take part."""


@contextmanager
def naive(checkpoint: Path) -> Iterator[Peer]:
    port = _free_port()
    program = [ENVIRONMENT / "python", "benchmarks/peers/naive_server.py", checkpoint, port]

    def calls(connections: Connections) -> dict[str, Call]:
        return {
            "image": lambda n: connections.post("/image", inputs.picture(n), "image/jpeg"),
            "text": lambda n: connections.post("/text", inputs.text(n).encode(), "text/plain"),
        }

    with _started(NAIVE, program, port, "/ready", calls) as peer:
        yield peer


@contextmanager
def infinity(checkpoint: Path) -> Iterator[Peer]:
    """With what is quickest of it: vectors in base64, batches of 32, nothing logged."""
    port = _free_port()
    program = [ENVIRONMENT / "infinity_emb", "v2", "--model-id", checkpoint.resolve(), "--engine", "torch"]
    program += ["--device", "cpu", "--no-bettertransformer", "--batch-size", 32, "--log-level", "error"]
    program += ["--served-model-name", "model", "--host", "127.0.0.1", "--port", port]

    def calls(connections: Connections) -> dict[str, Call]:
        def post(modality: str, given: str) -> object:
            body = {"model": "model", "modality": modality, "encoding_format": "base64", "input": [given]}
            return connections.post_json("/embeddings", body)

        def picture(number: int) -> str:
            return "data:image/jpeg;base64," + base64.b64encode(inputs.picture(number)).decode()

        return {
            "image": lambda n: post("image", picture(n)),  # type: ignore[dict-item, return-value]
            "text": lambda n: post("text", inputs.text(n)),  # type: ignore[dict-item, return-value]
        }

    with _started(INFINITY, program, port, "/health", calls) as peer:
        yield peer


@contextmanager
def _started(
    name: str,
    program: list[object],
    port: int,
    ready_path: str,
    calls: Callable[[Connections], dict[str, Call]],
) -> Iterator[Peer]:
    if not Path(str(program[0])).exists():
        raise PeerMissing("not installed: `make bench-peers` does that")
    with tempfile.TemporaryFile() as log:
        command = [str(word) for word in program]
        process = subprocess.Popen(command, env=os.environ | QUIET, stdout=log, stderr=log, process_group=0)
        connections = Connections(port)
        try:
            if not _ready(process, f"http://127.0.0.1:{port}{ready_path}"):
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines() or ["no word"]
                raise PeerMissing(f"did not start: {lines[-1]}")
            os.killpg(process.pid, signal.SIGSTOP)
            yield Peer(name, calls(connections), process, connections)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
        time.sleep(0.2)
    return False


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])
