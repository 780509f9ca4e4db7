"""`siglip convert`."""

from pathlib import Path

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("source", metavar="SOURCE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", metavar="TARGET", type=click.Path(file_okay=False, path_type=Path))
def convert(source: Path, target: Path) -> int:
    """Rewrite a checkpoint as a Hugging Face folder with safetensors.

    SOURCE is a folder in open_clip's layout (open_clip_config.json and its weights), or one in the
    Hugging Face layout whose weights are a pickle. TARGET must not exist, or be empty. A pickle is
    read without running anything that it says.

    \b
    Examples:
      siglip convert ViT-B-16-SigLIP siglip-base-patch16-224
      siglip convert old-checkpoint-with-bin new-checkpoint
    """
    from siglip_model.conversion import convert as rewrite
    from siglip_model.files import TOKENIZER_JSON, VOCABULARY

    rewrite(source, target)
    click.echo(f"Wrote {target}")
    if not any((target / name).is_file() for name in (VOCABULARY, TOKENIZER_JSON)):
        click.echo(f"{source} has no tokenizer: copy {VOCABULARY} of the original into {target}", err=True)
    return exit_codes.OK
