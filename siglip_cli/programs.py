"""Which programs make up a service, with the command line and the environment of each."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from siglip_cli.child import Program
from siglip_settings import (
    GatewaySettings,
    ModelSettings,
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
    hub_commits: tuple[str, ...]
    """Of each model that was fetched from the hub; empty for a local folder."""

    @property
    def models(self) -> list[ModelSettings]:
        """As children get them: no child asks the hub again, or finds a newer commit there."""
        return [
            replace(model, model_name=model.served_name, revision=commit or model.revision)
            for model, commit in zip(self.settings.each_model, self.hub_commits, strict=True)
        ]


def gateway_program(setup: Setup) -> Program:
    """The gateway; once it listens it writes to ADDRESS_FILE where."""
    address_file = setup.folder / ADDRESS_FILE
    command = [*_SIGLIP, "gateway", "--end-with-stdin", "--address-file", str(address_file)]
    command += ["--probe-socket", str(setup.folder / PROBE_SOCKET)]
    further = ",".join(map(_entry, setup.models[1:])) or None
    return Program("gateway", command, _environ(GatewaySettings, setup, setup.models[0], more_models=further))


def metrics_listen(settings: ServeSettings, after: int) -> str | None:
    """The gateway has the port that is set, and each worker the next one; 0 is any for all."""
    host, _, port = (settings.metrics_listen or "").rpartition(":")
    if not port.isdecimal() or int(port) == 0:
        return settings.metrics_listen
    return f"{host}:{int(port) + after}"


def worker_programs(setup: Setup) -> list[Program]:
    """The workers of all models and served towers; unless told otherwise they share the cores evenly."""
    settings = setup.settings
    counts = {tower: worker_count(settings, tower) for tower in settings.served_towers}
    threads = settings.threads or max(1, usable_cores() // max(1, len(setup.models) * sum(counts.values())))
    command = [*_SIGLIP, "worker", "--end-with-stdin", "--tower"]
    wanted = [
        (model, tower, number)
        for model in setup.models
        for tower, count in counts.items()
        for number in range(1, count + 1)
    ]
    return [
        Program(
            f"{tower} worker {number}" + (f" of {model.model_name}" if len(setup.models) > 1 else ""),
            [*command, tower],
            _environ(
                WorkerSettings, setup, model, threads=threads, metrics_listen=metrics_listen(settings, place)
            ),
        )
        for place, (model, tower, number) in enumerate(wanted, 1)
    ]


def _entry(model: ModelSettings) -> str:
    """Of --more-models."""
    return f"{model.model_name}={model.model}" + (f"@{model.revision}" if model.revision else "")


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


def _environ(cls: type, setup: Setup, model: ModelSettings, **changed: object) -> dict[str, str]:
    """Settings go by environment, not by command line: any user of the machine may read the latter."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # What libraries leave in the temporary folder is removed with ours.
    environ["TMPDIR"] = str(setup.folder)
    if any(setup.hub_commits):
        # They are in the cache by now.
        environ["HF_HUB_OFFLINE"] = "1"
    given = vars(setup.settings) | {"redis_url": setup.redis_url} | vars(model) | changed
    if not setup.settings.redis_url:
        # It is for a Redis that is not ours: our own has none, and would refuse one.
        given["redis_password"] = None
    for setting in settings_of(cls):
        value = given.get(setting.name)
        if value is not None:
            environ[setting.variable] = str(value)
    return environ
