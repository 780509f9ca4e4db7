"""`siglip acl`."""

import re
from typing import TYPE_CHECKING, cast

import click

from siglip_cli import exit_codes
from siglip_cli.errors import CommandError
from siglip_cli.options import Command

if TYPE_CHECKING:
    from broker import Role

# Redis refuses it, so that nobody gets a password that everybody knows.
PLACEHOLDER = "SHA256-OF-THE-PASSWORD"


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("roles", metavar="[ROLE]...", nargs=-1)
@click.option("--password-sha256", metavar="HEX", help="SHA-256 of the password, for a single ROLE.")
@click.option(
    "--form",
    type=click.Choice(("command", "file")),
    default="command",
    help="command: for redis-cli; file: a line of an aclfile or of redis.conf. [default command]",
)
def acl(roles: tuple[str, ...], password_sha256: str | None, form: str) -> int:
    """Print Redis users with the rights of gateway, worker, operator and scaler, and no others.

    An operator runs 'siglip doctor', 'top' and 'dead-letter'; a scaler only sees how much waits.

    \b
    Examples:
      siglip acl
      siglip acl worker --password-sha256 $(printf %s "$PASSWORD" | sha256sum | cut -c-64) | redis-cli
    """
    from broker import ROLES, rules_of

    roles = tuple(dict.fromkeys(roles))  # each once
    if unknown := [role for role in roles if role not in ROLES]:
        raise CommandError(f"ROLE is {unknown[0]!r}; allowed: {', '.join(ROLES)}")
    if password_sha256 is not None:
        _check_password(roles, password_sha256)
    for role in roles or ROLES:
        rules = rules_of(cast("Role", role))
        start = f"ACL SETUSER siglip-{role} reset" if form == "command" else f"user siglip-{role}"
        click.echo(f"{start} on #{password_sha256 or PLACEHOLDER} {rules}")
    return exit_codes.OK


def _check_password(roles: tuple[str, ...], digest: str) -> None:
    if len(roles) != 1:
        raise CommandError("--password-sha256 needs one ROLE: each user gets a password of its own")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise CommandError("--password-sha256 must be 64 hexadecimal digits in lower case")
