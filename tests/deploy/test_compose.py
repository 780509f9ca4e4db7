"""deploy/compose.yaml, and the container files that it builds."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.images import base_image
from siglip_settings import GatewaySettings, WorkerSettings, load, settings_of

DEPLOY = Path("deploy")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OURS = {name: each for name, each in SERVICES.items() if "SIGLIP_MODEL" in each.get("environment", {})}
CONTAINERS = sorted((DEPLOY / "containers").glob("*.Containerfile"))


def plain(environment: dict[str, str]) -> dict[str, str]:
    """With the defaults that the file gives to what it takes from outside."""
    return {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text) for name, text in environment.items()}


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings_with_possible_values(name: str) -> None:
    settings = GatewaySettings if name.startswith("gateway") else WorkerSettings
    given = plain(OURS[name]["environment"])
    assert given.keys() <= {setting.variable for setting in settings_of(settings)}
    loaded = load(settings, given)
    assert int(OURS[name]["stop_grace_period"].removesuffix("s")) > loaded.drain_timeout_s
    assert loaded.model == "/models/shapes" and loaded.redis_url == "redis://queue:6379"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_as_little_as_possible(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert re.search(r":[\w.-]+$", service["image"]) and not service["image"].endswith(":latest")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_prometheus_reads_every_page_under_the_name_that_alerts_know() -> None:
    configuration = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    assert job["job_name"] == "siglip"
    pages = {
        f"{name}:{each['environment']['SIGLIP_METRICS_LISTEN'].rpartition(':')[2]}"
        for name, each in OURS.items()
    }
    assert set(job["static_configs"][0]["targets"]) == pages


def test_files_that_are_mounted_are_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), mount


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_an_image_is_pinned_and_copies_every_package(path: Path) -> None:
    text = path.read_text()
    assert re.fullmatch(r"[\w./]+:\d[\w.-]+", base_image())
    assert "--require-hashes" in text and "USER 65532:65532" in text and "HEALTHCHECK" in text
    assert "COPY . .\n" in text
    wheel = re.search(
        r"\[tool.hatch.build.targets.wheel\]\npackages = \[(.*?)\]",
        Path("pyproject.toml").read_text(),
        re.DOTALL,
    )
    assert wheel
    let_through = re.findall(r"^!(.+)$", Path(".dockerignore").read_text(), re.MULTILINE)
    for name in {each.partition("/")[0] for each in re.findall(r'"(.*?)"', wheel[1])}:
        assert any(fnmatch(name, pattern) for pattern in let_through), name


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_variables_of_an_image_are_settings(path: Path) -> None:
    settings = GatewaySettings if path.stem == "gateway" else WorkerSettings
    given = set(re.findall(r"\bSIGLIP_[A-Z_]+(?==)", path.read_text()))
    assert given and given <= {setting.variable for setting in settings_of(settings)}
