"""The `siglip` command: finds the subcommand, turns errors into one line and an exit code."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.commands.acl import acl
from siglip_cli.commands.classify import classify
from siglip_cli.commands.config import config
from siglip_cli.commands.convert import convert
from siglip_cli.commands.dead_letter import dead_letter
from siglip_cli.commands.doctor import doctor
from siglip_cli.commands.download import download
from siglip_cli.commands.embed import embed_image, embed_text
from siglip_cli.commands.embed_job import embed
from siglip_cli.commands.gateway import gateway
from siglip_cli.commands.info import info
from siglip_cli.commands.near_duplicates import near_duplicates
from siglip_cli.commands.score import score
from siglip_cli.commands.search import search
from siglip_cli.commands.serve import serve
from siglip_cli.commands.token import token
from siglip_cli.commands.top import top
from siglip_cli.commands.train import train
from siglip_cli.commands.verify import verify
from siglip_cli.commands.worker import worker
from siglip_cli.errors import explain
from siglip_cli.output import one_line

COMMANDS = (
    serve,
    classify,
    score,
    embed_text,
    embed_image,
    embed,
    search,
    near_duplicates,
    info,
    config,
    download,
    convert,
    gateway,
    worker,
    doctor,
    top,
    dead_letter,
    token,
    acl,
    verify,
    train,
)


NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class InOrder(click.Group):
    """Lists its commands as they are given, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """A reader that leaves is no error, and no exit code of click's either."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_output()
            return exit_codes.READER_LEFT


def _version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"siglip {version('siglip')}")
        except PackageNotFoundError:
            click.echo("siglip, from a source tree that is not installed")
        context.exit()


@click.group(
    cls=InOrder,
    commands=COMMANDS,
    epilog=f"{exit_codes.EPILOG} 'siglip COMMAND --help' shows examples.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
def siglip() -> None:
    """SigLIP as a service: images and texts to vectors and probabilities.

    \b
    siglip serve --model checkpoints/shapes            start everything on this machine
    siglip classify photo.jpg --label cat --label dog  ask it, from another shell
    """


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the exit code."""
    try:
        code = siglip.main(list(arguments) or ["--help"], prog_name="siglip", standalone_mode=False)
        return code or exit_codes.OK
    except click.ClickException as error:
        return _say(_usage_line(error), exit_codes.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", 130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NOT_WRITTEN:
            _drop_output()
            return _say(f"cannot write output: {error.strerror}", exit_codes.USAGE)
        if (known := explain(error)) is None:
            sys.excepthook(type(error), error, error.__traceback__)
            return exit_codes.DEFECT
        return _say(*known)


def main() -> None:
    # gRPC's C core writes lines of its own to stderr, about what strangers send too. Failures are raised.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(sys.argv[1:]))


def _drop_output() -> None:
    """Drops what standard output did not take: Python would try again as it exits, and print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "siglip"
    return f"{' '.join(error.format_message().split())} (see '{path} --help')"


def _say(line: str, code: int) -> int:
    print(f"siglip: {one_line(line)}", file=sys.stderr)
    return code
