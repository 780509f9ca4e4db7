"""`siglip config`."""

import os
from dataclasses import MISSING
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command
from siglip_cli.output import json_text, one_line
from siglip_settings import Resolved, all_settings, masked, refuse_unknown, resolve


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
def config(as_json: bool, changed: bool) -> int:
    """Show every setting, its value and its source.

    Flags of a command win over these variables. Passwords are masked.

    \b
    Examples:
      siglip config
      SIGLIP_MAX_IMAGES=16 siglip config --changed --json
    """
    refuse_unknown(os.environ)
    found = [resolve(setting, os.environ) for setting in all_settings().values()]
    shown = [each for each in found if not changed or each.source != "default"]
    if as_json:
        click.echo(json_text({each.setting.name: _fields(each) for each in shown}))
    else:
        _print(shown)
    return exit_codes.OK


def _fields(found: Resolved) -> dict[str, Any]:
    setting = found.setting
    return {
        "value": None if found.value is MISSING else masked(found),
        "source": found.source,
        "variable": setting.variable,
        "flag": setting.flag,
        "unit": setting.unit,
        "help": setting.help,
    }


def _print(shown: list[Resolved]) -> None:
    rows = [(each.setting.variable, _text(each), each.source) for each in shown]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for variable, value, source in rows:
        click.echo(f"{variable:{widths[0]}}  {value:{widths[1]}}  {_origin(source)}")


def _text(found: Resolved) -> str:
    if found.value is MISSING or found.value is None:
        return "(not set)"
    return one_line(f"{masked(found)} {found.setting.unit}".rstrip())


def _origin(source: str) -> str:
    return source if source == "default" else "environment"
