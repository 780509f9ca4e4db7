"""`siglip worker`."""

from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.lifeline import end_with_stdin
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import SettingsError, WorkerSettings


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@settings_options(WorkerSettings)
@click.option("--end-with-stdin", "ends_with_stdin", is_flag=True, hidden=True)
def worker(ends_with_stdin: bool, **given: Any) -> int:
    """Start one worker: one tower on one device.

    It needs the Redis or Valkey of the gateways it works for ('siglip serve' brings its own).

    \b
    Examples:
      siglip worker --tower text --model checkpoints/shapes --redis-url redis://127.0.0.1:6379
      siglip worker --tower vision --device cuda:1 --model ./my-model --redis-url redis://queue:6379
    """
    if ends_with_stdin:
        end_with_stdin()
    settings = load_settings(WorkerSettings, given)
    if not settings.redis_url:
        raise SettingsError(
            "a worker alone needs --redis-url (or SIGLIP_REDIS_URL); 'siglip serve' brings its own queue"
        )
    from siglip_cli.logs import start_logging
    from workers.main import run

    start_logging(settings.log_format, settings.log_level, f"{settings.tower} worker")
    return run(settings)
