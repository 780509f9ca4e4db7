"""`siglip top`."""

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import RedisSettings

if TYPE_CHECKING:
    from broker import QueueView
    from siglip_cli.screen import Look

_HOME_AND_CLEAR = "\x1b[H\x1b[J"


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.option("--every-s", default=2.0, type=click.FloatRange(0.1, 3600), help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print one picture and end; so it is where output is no terminal.")
@settings_options(RedisSettings)
def top(every_s: float, once: bool, **given: Any) -> int:
    """Show queues, workers and their load, live.

    Rates are those since the last look. Ctrl-C ends it.

    \b
    Examples:
      siglip top --redis-url redis://queue:6379
      siglip top --once --redis-url unix:///run/siglip/valkey.sock
    """
    settings = load_settings(RedisSettings, given)
    from broker import QueueView
    from siglip_cli.screen import picture

    once = once or not sys.stdout.isatty()
    with closing(QueueView(settings)) as view:
        before = _look(view)
        while True:
            time.sleep(every_s)
            now = _look(view)
            text = "\n".join(picture(now, before))
            if once:
                click.echo(text)
                return exit_codes.OK
            click.echo(_HOME_AND_CLEAR + text, nl=False)
            before = now


def _look(view: "QueueView") -> "Look":
    from siglip_cli.screen import Look

    return Look(time.monotonic(), view.servers(), view.models())
