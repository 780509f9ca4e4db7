"""Which package may import which: the arrows of the architecture, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {
    "siglip",
    "siglip_settings",
    "siglip_metrics",
    "siglip_traces",
    "siglip_model",
    "siglip_client",
    "siglip_jobs",
    "siglip_search",
    "siglip_cli",
    "broker",
    "gateway",
    "workers",
    "training",
    "benchmarks",
    "examples",
}
MAY_IMPORT = {
    "siglip_settings": set[str](),
    "siglip_metrics": set[str](),
    "siglip_traces": set[str](),
    "siglip_model": set[str](),
    "siglip_client": {"siglip", "siglip_model"},
    "siglip_jobs": {"siglip_client", "siglip_settings", "siglip_model"},
    "siglip_search": set[str](),
    "broker": {"siglip", "siglip_settings"},
    "gateway": {"siglip", "siglip_settings", "siglip_metrics", "siglip_traces", "broker", "siglip_model"},
    "workers": {"siglip", "siglip_settings", "siglip_metrics", "siglip_traces", "broker", "siglip_model"},
    "siglip_cli": OURS - {"training", "benchmarks", "examples"},
}
FOREIGN_REFUSED = {
    "siglip_settings": {"torch", "grpc", "redis", "numpy"},
    "siglip_metrics": {"torch", "grpc", "redis", "numpy"},
    "siglip_traces": {"torch", "grpc", "redis", "numpy"},
    "siglip_model": {"grpc", "redis", "transformers"},
    "siglip_client": {"torch", "redis", "transformers"},
    "siglip_jobs": {"torch", "grpc", "redis", "transformers", "click"},
    "siglip_search": {"torch", "grpc", "redis", "transformers"},
    "broker": {"torch", "grpc", "transformers"},
    "gateway": {"torch", "transformers"},
    "workers": {"grpc", "transformers"},
    "siglip_cli": {"transformers"},
}


# What only --traces-endpoint needs. Where OpenTelemetry is installed, redis imports other parts of it.
TRACES = ["opentelemetry.sdk.trace", "opentelemetry.exporter", "siglip_traces.spans"]


def imported_by(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_along_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no source files"
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported_by(path)
        if (name in OURS and name not in allowed) or name in FOREIGN_REFUSED[package]
    }
    assert not wrong


@pytest.mark.parametrize(
    ("module", "refused"),
    [
        ("gateway.server", ["torch", "transformers", *TRACES]),
        ("siglip_model", ["torch", "PIL", "grpc", "redis"]),
        ("siglip_client", ["torch", "redis", "PIL"]),
        (
            "siglip_jobs.job, siglip_jobs.sources, siglip_jobs.reading",
            ["torch", "grpc", "redis", "PIL", "pyarrow"],
        ),
        ("siglip_cli.main", ["torch", "redis", "grpc", "PIL"]),
        ("workers.main", ["grpc", *TRACES]),
        ("siglip_traces.spans, siglip_traces.sending", ["grpc"]),
        ("broker", ["torch", "grpc"]),
    ],
)
def test_importing_a_part_leaves_heavy_libraries_out(module: str, refused: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {refused!r} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []
