"""`siglip doctor`."""

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import json_text, one_line
from siglip_settings import ClientSettings, ModelsSettings, RedisSettings, settings_of

if TYPE_CHECKING:
    from broker import Role
    from siglip_cli.doctor.findings import Finding

MARKS = {"ok": ("ok", "green"), "skipped": ("-", None), "warning": ("!", "yellow"), "problem": ("X", "red")}


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--role",
    type=click.Choice(("gateway", "worker", "operator", "scaler")),
    help="What the user of --redis-url must be able to do. Default: any of these.",
)
@settings_options(ClientSettings)
@settings_options(RedisSettings)
@settings_options(ModelsSettings, may_be_absent=True)
def doctor(as_json: bool, role: "Role | None", **given: Any) -> int:
    """Look at a service from here, and say what is wrong and what to do.

    It looks at what it is told of: the gateway at --address, the queue at --redis-url, the files of
    --model (none of them is required). Exit code 1: at least one problem.

    \b
    Examples:
      siglip doctor
      siglip doctor --model checkpoints/shapes --redis-url redis://queue:6379 --address gateway:50051
    """
    worst = exit_codes.OK
    for finding in _findings(given, role):
        click.echo(json_text(dataclasses.asdict(finding)) if as_json else _line(finding))
        if finding.level == "problem":
            worst = exit_codes.SOME_FAILED
    return worst


def _findings(given: dict[str, Any], role: "Role | None") -> Iterator["Finding"]:
    from siglip_cli.doctor.certificates import check_gateway_certificates, check_redis_certificates
    from siglip_cli.doctor.findings import Finding
    from siglip_cli.doctor.machine import check_machine
    from siglip_cli.doctor.model import check_model
    from siglip_cli.doctor.queue import check_queue
    from siglip_cli.doctor.service import check_service

    client = load_settings(ClientSettings, _only(ClientSettings, given))
    redis = load_settings(RedisSettings, _only(RedisSettings, given))
    yield from check_machine()
    local: dict[str, str] = {}
    if given.get("model") or os.environ.get("SIGLIP_MODEL"):
        settings = load_settings(ModelsSettings, _only(ModelsSettings, given))
        for each in settings.each_model:
            finding, local[each.served_name] = check_model(each)
            yield finding
    else:
        yield Finding("skipped", "model", "no --model given")
    yield from check_gateway_certificates(client)
    towers = yield from check_service(client, local)
    yield from check_redis_certificates(redis)
    if redis.redis_url:
        yield from check_queue(redis, role, local, towers)
    else:
        yield Finding("skipped", "queue", "no --redis-url given")


def _only(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    return {setting.name: given.get(setting.name) for setting in settings_of(cls)}


def _line(finding: "Finding") -> str:
    mark, colour = MARKS[finding.level]
    line = f"{click.style(f'{mark:>2}', fg=colour)}  {finding.what:16} {one_line(finding.text)}"
    return f"{line}\n{'':21}-> {one_line(finding.remedy)}" if finding.remedy else line
