"""Writes what the Helm chart takes from elsewhere: the schema of its settings, the alerts and the dashboard.

`chart.py --check` compares instead. The rest of values.schema.json is written by hand, and kept.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts import charts
from siglip_settings import GatewaySettings, Setting, WorkerSettings, settings_of

ROOT = Path(__file__).parent.parent
CHART = Path("deploy/chart")
COPIES = {"files/alerts.yml": "alerts.yml", "files/dashboard.json": "dashboard.json"}
SCHEMA = "values.schema.json"

# What the chart itself sets, from values of its own.
OF_THE_CHART = frozenset(
    (
        *("model", "model_name", "more_models", "revision", "cache_dir", "tower", "towers"),
        *("redis_url", "redis_password", "redis_sentinel_name", "redis_cluster", "redis_shards"),
        *("redis_ca_file", "redis_cert_file", "redis_key_file"),
        *("listen", "metrics_listen", "drain_timeout_s"),
        *("tls_cert_file", "tls_key_file", "tls_client_ca_file", "token_file"),
    )
)
JSON_TYPES = {int: "integer", float: "number", str: "string"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    if not arguments.check:
        for path, text in made(arguments.root):
            path.write_text(text)
        return 0
    found = [*stale(arguments.root), *charts.stale(arguments.root)]
    for path in found:
        print(f"{path} is not what it is made from: run `make chart`", file=sys.stderr)
    return 1 if found else 0


def stale(root: Path) -> Iterator[Path]:
    for path, text in made(root):
        if not path.exists() or path.read_text() != text:
            yield path.relative_to(root)


def made(root: Path) -> Iterator[tuple[Path, str]]:
    """Each file of the chart that is made from others, with its text."""
    for name, source in COPIES.items():
        yield root / CHART / name, (root / "deploy" / "monitoring" / source).read_text()
    schema = json.loads((root / CHART / SCHEMA).read_text())
    schema["$defs"] |= {"gatewaySettings": of(GatewaySettings), "workerSettings": of(WorkerSettings)}
    yield root / CHART / SCHEMA, json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def of(settings: type) -> dict[str, Any]:
    """The JSON Schema of the settings of a process that are left to the user of the chart."""
    own = [setting for setting in settings_of(settings) if setting.name not in OF_THE_CHART]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {setting.name: described(setting) for setting in own},
    }


def described(setting: Setting) -> dict[str, Any]:
    told = f"{setting.help}{f' [{setting.unit}]' if setting.unit else ''}"
    if setting.choices:
        return {"description": told, "enum": list(setting.choices)}
    bounds = {"minimum": setting.minimum, "maximum": setting.maximum}
    kind = next(kind for kind in JSON_TYPES if kind in (setting.kind, *getattr(setting.kind, "__args__", ())))
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"description": told, "type": JSON_TYPES[kind], **given}


if __name__ == "__main__":
    sys.exit(main())
