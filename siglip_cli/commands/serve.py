"""`siglip serve`."""

from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.lifeline import end_with_stdin
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import ServeSettings


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@settings_options(ServeSettings)
@click.option("--end-with-stdin", "ends_with_stdin", is_flag=True, hidden=True)
def serve(ends_with_stdin: bool, **given: Any) -> int:
    """Start everything on this machine: queue, gateway and workers.

    Without --redis-url the queue is a private one that needs no set-up. Prints the address when ready;
    Ctrl-C finishes accepted calls and stops, a second one stops at once.

    \b
    Examples:
      siglip serve --model checkpoints/shapes
      siglip serve --model google/siglip-base-patch16-224 --listen 0.0.0.0:50051
      siglip serve --model ./small --more-models large=./large,shop=owner/name@v2
      siglip serve --model ./my-model --vision-workers 2 --redis-url redis://queue:6379
    """
    if ends_with_stdin:
        end_with_stdin()
    settings = load_settings(ServeSettings, given)
    from siglip_cli.logs import start_logging
    from siglip_cli.service import run_service

    start_logging(settings.log_format, settings.log_level, "serve")
    return run_service(settings)
