"""The real service for the cases: gateways of each kind before one queue and one pair of workers."""

import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import EmbeddedServer
from siglip_cli.probe import read_address, serves
from siglip_client import Client
from tests.conformance.inputs import MAX_IMAGE_BYTES
from tests.faults.fleet import CHECKPOINT, START_TIMEOUT_S, Part
from tests.support import certificates
from tests.support.certificates import Pair
from tests.support.valkey import free_port, wait_until

TOKEN = "correct-horse-battery-staple"
_MAX_MESSAGE_BYTES = 3 * MAX_IMAGE_BYTES
# Small beside the 1,000 items of a stream, so that a stream is under way for long.
_MORTAL_STREAM_ITEMS = 64


@dataclass
class Gateway:
    """A real gateway process, and where it listens."""

    part: Part
    address_file: Path
    address: str = "127.0.0.1:0"

    def start(self) -> None:
        """On the same port when it is started again."""
        self.address_file.unlink(missing_ok=True)
        self.part.arguments = [*self.part.arguments[:1], "--listen", self.address, *self.part.arguments[3:]]
        self.part.start()

    def wait(self) -> None:
        wait_until(lambda: self._listens() or self._ended(), START_TIMEOUT_S)
        self.address = self.address_file.read_text()

    def _listens(self) -> bool:
        return read_address(self.address_file) is not None

    def _ended(self) -> bool:
        process = self.part.process
        assert process is None or process.poll() is None, self.part.log.read_text()[-2000:]
        return False


@dataclass
class Service:
    folder: Path
    redis_url: str
    workers: list[Part] = field(default_factory=list)
    gateways: dict[str, Gateway] = field(default_factory=dict)

    def start(self) -> None:
        trusted = certificates.authority(self.folder / "trusted")
        certificates.authority(self.folder / "stranger")
        for tower in ("text", "vision"):
            self.workers.append(self._part(f"{tower}-worker", ["worker", "--tower", tower], {}))
        secure = self._tls(certificates.signed(trusted, self.folder, "server"))
        self._gateway("plain", {"SIGLIP_MAX_MESSAGE_BYTES": str(_MAX_MESSAGE_BYTES)})
        self._gateway("secure", secure | {"SIGLIP_TOKEN_FILE": str(self._token_file())})
        self._gateway("expired", self._tls(certificates.signed(trusted, self.folder, "expired", days=-1)))
        self._gateway("mortal", {"SIGLIP_STREAM_MAX_ITEMS": str(_MORTAL_STREAM_ITEMS)})
        for part in self.workers:
            part.start()
        for gateway in self.gateways.values():
            gateway.start()
        for gateway in self.gateways.values():
            gateway.wait()
        wait_until(self._ready, START_TIMEOUT_S)

    def kill(self, name: str) -> None:
        """A gateway, and starts it again on its port."""
        gateway = self.gateways[name]
        gateway.part.end(signal.SIGKILL)
        gateway.start()

    def endpoints(self) -> dict[str, Any]:
        """Of the plan, by name."""
        plain, expired = self.gateways["plain"].address, _by_name(self.gateways["expired"].address)
        secure = _by_name(self.gateways["secure"].address)
        trusted, stranger = (str(self.folder / name / "authority.pem") for name in ("trusted", "stranger"))
        tls = {"address": secure, "tls": True, "ca_file": trusted}
        return {
            "plain": {"address": plain},
            "mortal": {"address": self.gateways["mortal"].address},
            "secure": tls | {"token": TOKEN},
            "wrong-token": tls | {"token": "nonsense"},
            "no-token": tls,
            "wrong-ca": tls | {"ca_file": stranger, "token": TOKEN},
            "expired": tls | {"address": expired},
            "clear-to-tls": {"address": secure},
            "tls-to-clear": tls | {"address": _by_name(plain)},
            "nobody": {"address": f"127.0.0.1:{free_port()}"},
        }

    def stop(self) -> None:
        for part in [*self.workers, *(gateway.part for gateway in self.gateways.values())]:
            if part.process:
                part.end(signal.SIGKILL)

    def _ready(self) -> bool:
        with Client(self.gateways["plain"].address) as client:
            model = client.get_model()
        live = model.text_tower.live_workers == model.vision_tower.live_workers == 1
        return live and all(serves(self.gateways[name].address) for name in ("plain", "mortal"))

    def _gateway(self, name: str, environ: dict[str, str]) -> None:
        file = self.folder / f"{name}.address"
        limits = {"SIGLIP_MAX_IMAGE_BYTES": str(MAX_IMAGE_BYTES), "SIGLIP_DECODE_PROCESSES": "1"}
        arguments = ["gateway", "--listen", "127.0.0.1:0", "--address-file", str(file)]
        self.gateways[name] = Gateway(self._part(name, arguments, limits | environ), file)

    def _part(self, name: str, arguments: list[str], environ: dict[str, str]) -> Part:
        shared = {"SIGLIP_REDIS_URL": self.redis_url, "SIGLIP_MODEL": str(CHECKPOINT)}
        return Part(name, arguments, shared | environ, self.folder / f"{name}.log")

    def _tls(self, pair: Pair) -> dict[str, str]:
        return {"SIGLIP_TLS_CERT_FILE": str(pair.certificate), "SIGLIP_TLS_KEY_FILE": str(pair.key)}

    def _token_file(self) -> Path:
        file = self.folder / "tokens.toml"
        file.write_text(f'[tokens.conformance]\nsha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n')
        return file


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with EmbeddedServer() as queue:
        service = Service(folder, queue.url)
        try:
            service.start()
            yield service
        finally:
            service.stop()


def _by_name(address: str) -> str:
    return f"localhost:{address.rpartition(':')[2]}"
