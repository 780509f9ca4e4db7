"""`siglip download`."""

import os
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import DownloadSettings


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("model", metavar="MODEL")
@settings_options(DownloadSettings)
def download(model: str, **given: Any) -> int:
    """Fetch a model from the hub; print its folder.

    Only the needed files, into the local cache. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.

    \b
    Examples:
      siglip download google/siglip-base-patch16-224
      siglip serve --model "$(siglip download google/siglip-base-patch16-224)"
    """
    settings = load_settings(DownloadSettings, given)
    from tqdm import tqdm

    from siglip_model.files import resolve

    files = resolve(model, revision=settings.revision, cache_dir=settings.cache_dir, progress=tqdm)
    click.echo(os.fsencode(files.folder))  # as it is: other commands take it
    return exit_codes.OK
