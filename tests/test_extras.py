"""Each extra declares what its packages import: read from the source, against pyproject.toml."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_arrows import OURS, imported_by

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    "client": ["siglip_client"],
    "gateway": ["gateway", "broker", "siglip_settings", "siglip_metrics"],
    "jobs": ["siglip_jobs", "siglip_search", "siglip_client"],
    "traces": ["siglip_traces"],
    "worker": ["workers", "broker", "siglip_settings", "siglip_metrics", "siglip_model"],
    "cli": ["siglip_cli"],
}
# Import name -> distribution, where they differ.
DISTRIBUTION = {
    "PIL": "pillow",
    "grpc": "grpcio",
    "google": "protobuf",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "opentelemetry": "opentelemetry-sdk",
    "huggingface_hub": "huggingface-hub",
    "prometheus_client": "prometheus-client",
}
# Taken only if the caller uses it already: a Pillow image as argument of the client.
OPTIONAL = {
    "client": {"pillow", "siglip_model"},
    # A setting asks for one, Parquet files for the other; each is an extra of its own.
    "worker": {"flash_attn", "pyarrow"},
}


def declared(extra: str) -> set[str]:
    """Distributions of an extra, with those of the extras that it names."""
    found: set[str] = set()
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]:
        if inner := re.match(r"siglip\[(.+)\]", requirement):
            found |= {name for part in inner[1].split(",") for name in declared(part)}
        else:
            found.add(re.split(r"[\[<>=]", requirement)[0].replace("_", "-").lower())
    return found


@pytest.mark.parametrize("extra", sorted(PACKAGES))
def test_an_extra_declares_what_its_packages_import(extra: str) -> None:
    files = [path for package in PACKAGES[extra] for path in (ROOT / package).rglob("*.py")]
    names = {name for path in files for name in imported_by(path)} - OURS - sys.stdlib_module_names
    wanted = {DISTRIBUTION.get(name, name) for name in names} - OPTIONAL.get(extra, set())
    assert wanted <= declared(extra)
