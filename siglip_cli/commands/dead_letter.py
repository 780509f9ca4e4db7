"""`siglip dead-letter`."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from siglip_cli import exit_codes
from siglip_cli.errors import CommandError
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import json_text, one_line
from siglip_settings import RedisSettings

if TYPE_CHECKING:
    from broker import DeadLetter

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
ids_argument = click.argument("ids", metavar="ID...", nargs=-1, required=True)


@click.group("dead-letter", epilog=exit_codes.EPILOG)
def dead_letter() -> None:
    """Work that was given up because workers died on it.

    Only headers and reasons are kept, for a week at most; pictures and texts are not.

    \b
    Examples:
      siglip dead-letter list --redis-url redis://queue:6379
      siglip dead-letter drop all
    """


@dead_letter.command("list", cls=Command, epilog=exit_codes.EPILOG)
@json_option
@settings_options(RedisSettings)
def list_letters(as_json: bool, **given: Any) -> int:
    """List what was given up, the newest first.

    \b
    Examples:
      siglip dead-letter list --redis-url redis://queue:6379
    """
    with closing(_view(given)) as view:
        for letter in view.dead_letters():
            click.echo(json_text(dataclasses.asdict(letter)) if as_json else _line(letter))
    return exit_codes.OK


@dead_letter.command("show", cls=Command, epilog=exit_codes.EPILOG)
@ids_argument
@settings_options(RedisSettings)
def show_letters(ids: tuple[str, ...], **given: Any) -> int:
    """Show everything that is known of some."""
    with closing(_view(given)) as view:
        for letter in _chosen(view, ids):
            for name, value in dataclasses.asdict(letter).items():
                click.echo(f"{name:12}{one_line(str(_when(value) if name == 'time_s' else value))}")
            click.echo()
    return exit_codes.OK


@dead_letter.command("drop", cls=Command, epilog=exit_codes.EPILOG)
@ids_argument
@settings_options(RedisSettings)
def drop_letters(ids: tuple[str, ...], **given: Any) -> int:
    """Delete some, or with the word `all` every one."""
    with closing(_view(given)) as view:
        letters = list(view.dead_letters()) if ids == ("all",) else list(_chosen(view, ids))
        click.echo(f"{view.drop(letters)} dropped")
    return exit_codes.OK


def _view(given: dict[str, Any]) -> Any:
    from broker import QueueView

    return QueueView(load_settings(RedisSettings, given))


def _chosen(view: Any, ids: tuple[str, ...]) -> Iterator["DeadLetter"]:
    letters = {letter.letter_id: letter for letter in view.dead_letters()}
    if missing := [each for each in ids if each not in letters]:
        raise CommandError(
            f"there is no dead letter {one_line(missing[0])}; 'siglip dead-letter list' shows all"
        )
    return (letters[each] for each in ids)


def _line(letter: "DeadLetter") -> str:
    where = f"row {letter.row} of {letter.shape}" if letter.row is not None else f"{letter.shape}"
    fields = (letter.letter_id, _when(letter.time_s), letter.reason, where)
    return one_line("  ".join(fields))


def _when(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # an id that somebody chose
        return "at no date"
