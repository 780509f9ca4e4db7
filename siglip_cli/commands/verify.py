"""`siglip verify`."""

import click

from siglip_cli import exit_codes
from siglip_cli.errors import CommandError
from siglip_cli.options import Command


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("model")
@click.option("--write", is_flag=True, help="Store the vectors that it gives here, instead of comparing.")
def verify(model: str, write: bool) -> int:
    """Check that a checkpoint gives its golden vectors on this machine.

    MODEL is a folder or a hub id. Workers check themselves against the same vectors before they serve,
    and gateways while they do. Exit code 1: a vector differs.

    \b
    Examples:
      siglip verify checkpoints/shapes
      siglip verify --write ./my-model
    """
    from siglip_model.files import resolve
    from siglip_model.golden import FILE, TOLERANCE, distance, read_golden, write_golden
    from siglip_model.golden_vectors import golden_vectors

    folder = resolve(model).folder
    found = golden_vectors(folder)
    if write:
        write_golden(folder, found)
        click.echo(f"written: {folder / FILE}")
        return exit_codes.OK
    golden = read_golden(folder)
    if not golden:
        raise CommandError(f"{folder} has no {FILE}; 'siglip verify --write {model}' stores the vectors")
    code = exit_codes.OK
    for tower, vector in found.items():
        away = distance(vector, golden[tower])
        right = away <= TOLERANCE["float32"]
        code = code if right else exit_codes.SOME_FAILED
        click.echo(f"{tower:8} 1 - cosine {max(0.0, away):.1e}  {'ok' if right else 'DIFFERS'}")
    return code
