"""`siglip info`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from siglip_cli import exit_codes
from siglip_cli.calling import connected
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_client import ModelDescription, TowerStatus


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options(ClientSettings)
def info(as_json: bool, **given: Any) -> int:
    """Describe the served model, its limits and its live workers.

    \b
    Examples:
      siglip info
      siglip info --address gateway.example.org:50051 --json
    """
    settings = load_settings(ClientSettings, given)
    with connected(settings) as client:
        model = client.get_model()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(model), ensure_ascii=False))
    else:
        _print(_rows(model))
    return exit_codes.OK


def _rows(model: "ModelDescription") -> dict[str, str]:
    return {
        "model": model.name,
        "served here": ", ".join(model.served_models or (model.name,)),
        "revision": model.revision or "(local folder)",
        "fingerprint": model.fingerprint,
        "embedding": f"{model.embedding_dim} numbers",
        "image size": f"{model.image_size} x {model.image_size} pixels",
        "text length": f"{model.text_length} tokens",
        "probability": f"sigmoid({model.logit_scale:.6g} * cosine {model.logit_bias:+.6g})",
        "templates": ", ".join(model.templates),
        "computed in": ", ".join(filter(None, (model.dtype, model.attention))) or "(no live worker)",
        "text tower": _tower(model.text_tower),
        "vision tower": _tower(model.vision_tower),
        **{f"limit {name}": f"{value:,}" for name, value in dataclasses.asdict(model.limits).items()},
    }


def _tower(tower: "TowerStatus") -> str:
    if not tower.served:
        return "not served"
    devices = f" ({', '.join(tower.devices)})" if tower.devices else ""
    return f"{tower.live_workers} live worker{'s' * (tower.live_workers != 1)}{devices}"


def _print(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name:{width}}  {value}")
