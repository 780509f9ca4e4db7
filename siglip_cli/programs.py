"""Which programs make up a service, with the command line and the environment of each."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from siglip_cli.child import Program
from siglip_settings import (
    GatewaySettings,
    ServeSettings,
    SettingsError,
    Tower,
    WorkerSettings,
    settings_of,
)
from siglip_settings.cores import usable_cores
from siglip_settings.fields import PREFIX

ADDRESS_FILE = "address"
PROBE_SOCKET = "probe.sock"
# -P: a folder named gateway or workers where the user happens to stand must not shadow ours.
_SIGLIP = [sys.executable, "-P", "-m", "siglip_cli"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What all programs of one service have in common."""

    settings: ServeSettings
    folder: Path
    """Private to the service, removed with it."""
    redis_url: str
    hub_commit: str
    """Of a model that was fetched from the hub; empty for a local folder."""


def gateway_program(setup: Setup) -> Program:
    """The gateway; once it listens it writes to ADDRESS_FILE where."""
    address_file = setup.folder / ADDRESS_FILE
    command = [*_SIGLIP, "gateway", "--end-with-stdin", "--address-file", str(address_file)]
    command += ["--probe-socket", str(setup.folder / PROBE_SOCKET)]
    return Program("gateway", command, _environ(GatewaySettings, setup))


def metrics_listen(settings: ServeSettings, after: int) -> str | None:
    """The gateway has the port that is set, and each worker the next one; 0 is any for all."""
    host, _, port = (settings.metrics_listen or "").rpartition(":")
    if not port.isdecimal() or int(port) == 0:
        return settings.metrics_listen
    return f"{host}:{int(port) + after}"


def worker_programs(setup: Setup) -> list[Program]:
    """The workers of all served towers; unless told otherwise they share the cores evenly."""
    settings = setup.settings
    counts = {tower: worker_count(settings, tower) for tower in settings.served_towers}
    threads = settings.threads or max(1, usable_cores() // max(1, sum(counts.values())))
    command = [*_SIGLIP, "worker", "--end-with-stdin", "--tower"]
    named = [(tower, number) for tower, count in counts.items() for number in range(1, count + 1)]
    return [
        Program(
            f"{tower} worker {number}",
            [*command, tower],
            _environ(WorkerSettings, setup, threads=threads, metrics_listen=metrics_listen(settings, place)),
        )
        for place, (tower, number) in enumerate(named, 1)
    ]


def worker_count(settings: ServeSettings, tower: Tower) -> int:
    return {"text": settings.text_workers, "vision": settings.vision_workers}[tower]


def check_workers(settings: ServeSettings) -> None:
    """Raises SettingsError when a served tower could never have a worker."""
    for tower in settings.served_towers:
        if not settings.redis_url and worker_count(settings, tower) == 0:
            raise SettingsError(
                f"--{tower}-workers is 0, but --towers is {settings.towers}; "
                "workers elsewhere can only join through a --redis-url"
            )


def _environ(cls: type, setup: Setup, **changed: object) -> dict[str, str]:
    """Settings go by environment, not by command line: any user of the machine may read the latter."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # What libraries leave in the temporary folder is removed with ours.
    environ["TMPDIR"] = str(setup.folder)
    settings = replace(setup.settings, redis_url=setup.redis_url, model_name=setup.settings.served_name)
    if setup.hub_commit:
        # It is in the cache by now: no child asks the hub again, or finds a newer commit there.
        settings = replace(settings, revision=setup.hub_commit)
        environ["HF_HUB_OFFLINE"] = "1"
    for setting in settings_of(cls):
        value = changed.get(setting.name, getattr(settings, setting.name, None))
        if value is not None:
            environ[setting.variable] = str(value)
    return environ
