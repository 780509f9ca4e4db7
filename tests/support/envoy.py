"""A real Envoy with the configuration of deploy/envoy, in front of gateways on this machine."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.valkey import free_port, wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "envoy"
MANAGER = "envoy.filters.network.http_connection_manager"


def configuration() -> dict[str, Any]:
    """What is in deploy/envoy/envoy.yaml."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "envoy.yaml").read_text())
    return found


def manager(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the HTTP connection manager."""
    [chain] = config["static_resources"]["listeners"][0]["filter_chains"]
    [network] = chain["filters"]
    assert network["name"] == MANAGER
    return dict(network["typed_config"])


def http_filter(config: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [each for each in manager(config)["http_filters"] if each["name"].endswith(f".{name}")]
    settings: dict[str, Any] = found["typed_config"]
    return settings


def binary() -> str | None:
    return shutil.which("envoy")


@dataclass
class Envoy:
    port: int
    admin_port: int
    access_log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stats(self) -> dict[str, int]:
        """Counters and gauges of the gateways' cluster, by their short names."""
        lines = self._admin("/stats?filter=^cluster.gateways.").splitlines()
        pairs = (line.removeprefix("cluster.gateways.").split(": ") for line in lines)
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def healthy(self) -> int:
        """Gateways that take calls."""
        return self.stats().get("membership_healthy", 0)

    def requests(self, stat: str = "rq_total") -> dict[int, int]:
        """Of each gateway, by its port: all requests so far, or those that are under way (`rq_active`)."""
        hosts = json.loads(self._admin("/clusters?format=json"))["cluster_statuses"]
        [gateways] = [each["host_statuses"] for each in hosts if each["name"] == "gateways"]
        return {
            int(host["address"]["socket_address"]["port_value"]): int(each.get("value", 0))
            for host in gateways
            for each in host["stats"]
            if each["name"] == stat
        }

    def ready(self) -> bool:
        try:
            return self._admin("/ready").strip() == "LIVE"
        except (urllib.error.URLError, ConnectionError):
            return False

    def _admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as reply:
            return bytes(reply.read()).decode()


@contextmanager
def fronting(
    ports: Sequence[int], folder: Path, transport_socket: dict[str, Any] | None = None
) -> Iterator[Envoy]:
    """An Envoy before gateways on these ports of the loopback, once all of them are healthy to it."""
    envoy = Envoy(free_port(), free_port(), folder / "access.log")
    config = _placed(envoy, ports)
    if transport_socket:
        config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = transport_socket
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [
        binary() or "envoy",
        "-c",
        str(folder / "envoy.json"),
        "--disable-hot-restart",
        "-l",
        "warning",
    ]
    with envoy.access_log.open("wb") as out, (folder / "envoy.log").open("wb") as err:
        process = subprocess.Popen([*command, "--concurrency", "1"], cwd=ROOT, stdout=out, stderr=err)
    try:
        wait_until(lambda: process.poll() is not None or envoy.ready())
        assert process.poll() is None, (folder / "envoy.log").read_text()
        wait_until(lambda: envoy.healthy() == len(ports))
        yield envoy
    finally:
        process.terminate()
        process.wait(30)


def _placed(envoy: Envoy, ports: Sequence[int]) -> dict[str, Any]:
    """The configuration with other addresses, and nothing else changed."""
    config = configuration()
    listener, cluster = config["static_resources"]["listeners"][0], config["static_resources"]["clusters"][0]
    listener["address"]["socket_address"]["port_value"] = envoy.port
    config["admin"]["address"]["socket_address"]["port_value"] = envoy.admin_port
    [group] = cluster["load_assignment"]["endpoints"]
    group["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
        for port in ports
    ]
    return config
