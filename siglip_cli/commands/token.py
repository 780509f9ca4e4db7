"""`siglip token`."""

import hashlib
import re
import secrets

import click

from siglip_cli import exit_codes
from siglip_cli.errors import CommandError
from siglip_cli.options import Command

ENTRY = """\
[tokens."{name}"]
sha256 = "{digest}"
"""


@click.group(epilog=exit_codes.EPILOG)
def token() -> None:
    """Tokens that callers show to a gateway.

    \b
    Examples:
      siglip token new search-team
    """


@token.command("new", cls=Command, epilog=exit_codes.EPILOG)
@click.argument("name")
def new(name: str) -> int:
    """Make a token for NAME. The caller gets it; the gateway's --token-file gets the lines below it.

    \b
    Examples:
      siglip token new search-team
      siglip token new search-team 2> secret.txt >> tokens.toml
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise CommandError(f"NAME is {name!r}; it must be 1 to 64 letters, digits or . _ -")
    made = secrets.token_urlsafe(32)
    click.echo(made, err=True)
    click.echo(ENTRY.format(name=name, digest=hashlib.sha256(made.encode()).hexdigest()), nl=False)
    return exit_codes.OK
