"""Renders the Helm chart with each file of values in deploy/chart/ci, into tests/deploy/rendered.

`charts.py --write` renders them; without it they are rendered again and compared, each manifest of a kind
that Kubernetes itself has is validated against its schema, and values that cannot be must be refused. It
needs helm-python-sdk and kubernetes-validate.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CHART = Path("deploy/chart")
RENDERED = Path("tests/deploy/rendered")
# The oldest that the chart admits, and a new one.
KUBERNETES = ("1.27", "1.34")
RELEASE, NAMESPACE = "release", "siglip"
MODEL = {"name": "base", "source": "/models/base", "fingerprint": "0" * 64, "towers": {"text": {}}}
GREEDY = {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}
# In place of those of the case "minimal"; and words of what must be said.
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"gatway": {}}, "'gatway' not allowed"),
    ({"models": []}, "/models"),
    ({"models": [MODEL, MODEL]}, 'two are named "base"'),
    (
        {"models": [MODEL | {"towers": {"text": GREEDY}}], "autoscaling": {"redisAddress": "redis:6379"}},
        "base: text: autoscaling.minReplicas is 5",
    ),
    ({"gateway": GREEDY}, "gateway.autoscaling.minReplicas is 5"),
    ({"gateway": {"maxUnavailable": "some"}}, "/gateway/maxUnavailable"),
    ({"gateway": {"tls": {"clientCa": True}}}, "gateway.tls.clientCa"),
    ({"gateway": {"tokens": {"secretName": "tokens"}}}, "gateway.tokens.secretName"),
    (
        {"redis": {"secretName": "redis", "mode": "cluster"}, "queue": {"enabled": True}},
        "redis.mode is cluster",
    ),
)


def main() -> int:
    if "--write" in sys.argv[1:]:
        (ROOT / RENDERED).mkdir(exist_ok=True)
        for case in cases(ROOT):
            file_of(ROOT, case).write_text(rendered(ROOT, case))
        return 0
    found = [*(line for case in cases(ROOT) for line in faults(case)), *wrongly_taken()]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


def cases(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / CHART / "ci").glob("*.yaml"))


def file_of(root: Path, case: str) -> Path:
    return root / RENDERED / f"{case}.yaml"


def digest(root: Path) -> str:
    """Of everything that the manifests are made from."""
    found = hashlib.sha256()
    for path in sorted(path for path in (root / CHART).rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def header(root: Path) -> str:
    return f"# Made by `make chart`; do not edit. Of a chart with the digest {digest(root)}.\n"


def stale(root: Path) -> Iterator[Path]:
    """Files that were rendered from another chart."""
    for case in cases(root):
        path = file_of(root, case)
        if not path.exists() or not path.read_text().startswith(header(root)):
            yield path.relative_to(root)


def rendered(root: Path, case: str) -> str:
    made = files_with(root, values_of(root, case))
    notes = next(text for path, text in made.items() if path.endswith("/NOTES.txt"))
    told = "\n".join(f"# {line}" for line in ["What `helm install` says:", *notes.strip().splitlines()])
    texts = [text.strip() for path, text in sorted(made.items()) if path.endswith(".yaml")]
    joined = "\n---\n".join(re.sub(r"^---\n", "", text) for text in texts if text)
    lines = [line.rstrip() for line in [*joined.splitlines(), *told.splitlines()] if line.strip()]
    return header(root) + "".join(f"{line}\n" for line in lines)


def values_of(root: Path, case: str) -> dict[str, Any]:
    import yaml

    values: dict[str, Any] = yaml.safe_load((root / CHART / "ci" / f"{case}.yaml").read_text())
    return values


def files_with(root: Path, values: dict[str, Any]) -> dict[str, str]:
    """What the chart gives, by path. Raises HelmError for values that it refuses."""
    from helm_python.chart import Chart

    with Chart.load(root / CHART) as chart:
        made: dict[str, str] = chart.render(values=values, name=RELEASE, namespace=NAMESPACE)
    return made


def wrongly_taken() -> Iterator[str]:
    """Values of REFUSED that are taken, or refused without those words; one line each."""
    from helm_python.errors import HelmError

    for given, words in REFUSED:
        try:
            files_with(ROOT, values_of(ROOT, "minimal") | given)
        except HelmError as error:
            if words not in str(error):
                yield f"{given} is refused, but not with {words!r}: {error}"
        else:
            yield f"{given} is taken; it should be refused with {words!r}"


def faults(case: str) -> Iterator[str]:
    """What is wrong with a case, one line each."""
    text = rendered(ROOT, case)
    path = file_of(ROOT, case)
    if not path.exists() or path.read_text() != text:
        yield f"{path.relative_to(ROOT)} is not what the chart gives: run `make chart`"
    yield from invalid(case, text)


def invalid(case: str, text: str) -> Iterator[str]:
    import kubernetes_validate
    import yaml

    for manifest in yaml.safe_load_all(text):
        for version in KUBERNETES:
            if "." in manifest["apiVersion"].partition("/")[0].removesuffix(".k8s.io"):
                continue  # of KEDA or the Prometheus operator, whose schemas Kubernetes does not have
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                name = f"{manifest['kind']} {manifest['metadata']['name']}"
                yield f"{case}: {name}, Kubernetes {version}: {error.message}"


if __name__ == "__main__":
    sys.exit(main())
