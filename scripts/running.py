"""Runs the images as a service, and looks whether it answers and stops as containers must."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.embedded import server_binary
from scripts.images import ROOT, BuildError, Store, start
from siglip_client import Client, SiglipError

PARTS = ("gateway", "text", "vision")
QUEUE = [str(server_binary()), "--bind", "127.0.0.1", "--save", "", "--port"]
PICTURE, LABELS = ROOT / "samples" / "red-circle.jpg", ["a red circle", "a blue square"]
USER = "65532"
START_S, STOP_S = 120.0, 45.0


class Ports(NamedTuple):
    """Of the loopback, for the containers have the machine's network; all but the first two are of pages."""

    queue: int
    calls: int
    gateway: int
    text: int
    vision: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.calls}"

    def page(self, part: str) -> int:
        return int(getattr(self, part))


def free_ports(count: int) -> list[int]:
    """Different ones; somebody else may take them."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def answers(store: Store) -> str:
    """What the service did, in words. Raises BuildError when it did not."""
    ports = Ports(*free_ports(5))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        logs, running = Path(folder), {}
        queue = [*QUEUE, str(ports.queue)]
        stack.callback(_end, subprocess.Popen(queue, cwd=folder, stdout=subprocess.DEVNULL))
        for part in PARTS:
            running[part] = process = _start(store, part, ports, logs)
            stack.callback(_end, process)
        started_s = _until_ready(running, ports, logs)
        for part, process in running.items():
            _check_confined(part, _first(process))
        _check_calls(ports.address)
        stopped_s = _stop(running)
    confined = f"a read-only root, user {USER}, the first process, no capabilities"
    return f"ready after {started_s:.0f} s ({confined}); answers; stops in {stopped_s:.1f} s"


def _start(store: Store, part: str, ports: Ports, logs: Path) -> "subprocess.Popen[bytes]":
    image = f"siglip-{'gateway' if part == 'gateway' else 'worker'}:check"
    environ = {
        "SIGLIP_MODEL": "/mnt/checkpoints/shapes",
        "SIGLIP_REDIS_URL": f"redis://127.0.0.1:{ports.queue}",
        "SIGLIP_METRICS_LISTEN": f"127.0.0.1:{ports.page(part)}",
    }
    if part == "gateway":
        environ["SIGLIP_LISTEN"] = ports.address
    else:
        environ |= {"SIGLIP_TOWER": part, "SIGLIP_THREADS": "1"}
    log = logs / f"{part}.log"
    return start(store.files_of(image), ROOT, store.settings_of(image), environ, log)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _until_ready(running: "dict[str, subprocess.Popen[bytes]]", ports: Ports, logs: Path) -> float:
    began = time.monotonic()
    while late := [part for part in PARTS if not _ready(ports.page(part))]:
        ended = [part for part, process in running.items() if process.poll() is not None]
        if ended or time.monotonic() - began > START_S:
            part = ended[0] if ended else late[0]
            raise BuildError(f"{part} does not get ready: {(logs / f'{part}.log').read_text()[-2000:]}")
        time.sleep(0.2)
    return time.monotonic() - began


def _check_calls(address: str) -> None:
    try:
        _check_health(address)
        with Client(address) as client:
            best = client.classify([str(PICTURE)], LABELS)[0][0]
    except (grpc.RpcError, SiglipError) as error:
        raise BuildError(f"it does not answer: {error}") from error
    if best.label != LABELS[0]:
        raise BuildError(f"{PICTURE.name} is {best.label!r}")


def _check_health(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "liveness"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            if reply.status != health_pb2.HealthCheckResponse.SERVING:
                raise BuildError(f"health of {name!r} is {reply.status}")


def _check_confined(part: str, pid: int) -> None:
    process = Path("/proc", str(pid))
    if wrong := loose((process / "status").read_text(), (process / "mountinfo").read_text()):
        raise BuildError(f"{part}: not as containers are run: {', '.join(wrong)}")


def loose(status_text: str, mounts_text: str) -> list[str]:
    """How a process is not confined, by the kernel's files `status` and `mountinfo` of it."""
    status = dict(line.split(":\t", 1) for line in status_text.splitlines())
    mounts = [line.split() for line in mounts_text.splitlines()]
    options = [mount[5].split(",") for mount in mounts if mount[4] == "/"]
    found = {
        "user": status["Uid"].split()[0] == USER,
        "first process": status["NSpid"].split()[-1] == "1",
        "capabilities": int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0,
        "no_new_privs": status["NoNewPrivs"] == "1",
        "read-only root": bool(options) and all("ro" in each for each in options),
    }
    return [name for name, right in found.items() if not right]


def _stop(running: "dict[str, subprocess.Popen[bytes]]") -> float:
    began = time.monotonic()
    for process in running.values():
        os.kill(_first(process), signal.SIGTERM)
    for part, process in running.items():
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"{part} does not stop within {STOP_S:g} s") from error
        if status:
            raise BuildError(f"{part} ends with status {status}")
    return time.monotonic() - began


def _first(process: "subprocess.Popen[bytes]") -> int:
    """The container's first process: the child of `unshare`."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
