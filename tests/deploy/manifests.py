"""The manifests that the chart gives for each file of values in deploy/chart/ci."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

RENDERED = Path("tests/deploy/rendered")
CASES = sorted(path.stem for path in RENDERED.glob("*.yaml"))


@cache
def manifests(case: str) -> list[Manifest]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where libyaml is there
    return list(yaml.load_all((RENDERED / f"{case}.yaml").read_text(), loader))


def notes(case: str) -> str:
    """What `helm install` says at its end."""
    return (RENDERED / f"{case}.yaml").read_text().rpartition("# What `helm install` says:\n")[2]


def of_kind(case: str, kind: str) -> list[Manifest]:
    return [each for each in manifests(case) if each["kind"] == kind]


def all_of_kind(kind: str) -> Iterator[Manifest]:
    for case in CASES:
        yield from of_kind(case, kind)


def named(case: str, kind: str, name: str) -> Manifest:
    (found,) = [each for each in of_kind(case, kind) if each["metadata"]["name"] == f"release-siglip-{name}"]
    return found


def pod(deployment: Manifest) -> Manifest:
    found: Manifest = deployment["spec"]["template"]["spec"]
    return found


def container(deployment: Manifest) -> Manifest:
    (found,) = pod(deployment)["containers"]
    return dict(found)


def environ(deployment: Manifest) -> dict[str, Any]:
    """Variables with their values, or with what they come from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(deployment)["env"]}
