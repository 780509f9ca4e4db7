"""Renders the Helm chart with each file of values in deploy/chart/ci, into tests/deploy/rendered.

`charts.py --write` renders them; without it they are rendered again and compared, and each manifest of a kind
that Kubernetes itself has is validated against its schema. It needs helm-python-sdk and kubernetes-validate.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHART = Path("deploy/chart")
RENDERED = Path("tests/deploy/rendered")
# The oldest that the chart admits, and a new one.
KUBERNETES = ("1.27", "1.34")
RELEASE, NAMESPACE = "release", "siglip"


def main() -> int:
    if "--write" in sys.argv[1:]:
        (ROOT / RENDERED).mkdir(exist_ok=True)
        for case in cases(ROOT):
            file_of(ROOT, case).write_text(rendered(ROOT, case))
        return 0
    found = [line for case in cases(ROOT) for line in faults(case)]
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
    import yaml
    from helm_python.chart import Chart

    values = yaml.safe_load((root / CHART / "ci" / f"{case}.yaml").read_text())
    with Chart.load(root / CHART) as chart:
        made = chart.render(values=values, name=RELEASE, namespace=NAMESPACE)
    notes = next(text for path, text in made.items() if path.endswith("/NOTES.txt"))
    told = "\n".join(f"# {line}" for line in ["What `helm install` says:", *notes.strip().splitlines()])
    texts = [text.strip() for path, text in sorted(made.items()) if path.endswith(".yaml")]
    joined = "\n---\n".join(re.sub(r"^---\n", "", text) for text in texts if text)
    lines = [line.rstrip() for line in [*joined.splitlines(), *told.splitlines()] if line.strip()]
    return header(root) + "".join(f"{line}\n" for line in lines)


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
