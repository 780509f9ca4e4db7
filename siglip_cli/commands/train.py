"""`siglip train`."""

from pathlib import Path
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import SettingsError, TrainSettings


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.argument("data", metavar="DATA...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Where the result goes."
)
@click.option(
    "--eval-data",
    metavar="DATA",
    type=click.Path(path_type=Path),
    help="Pairs to evaluate on: a folder or a .parquet file.",
)
@click.option("--resume", is_flag=True, help="Continue the run that --out holds.")
@click.option(
    "--gradient-checkpointing", is_flag=True, help="Less memory: layers are computed again for gradients."
)
@settings_options(TrainSettings)
def train(
    checkpoint: str,
    data: tuple[Path, ...],
    out: Path,
    eval_data: Path | None,
    resume: bool,
    gradient_checkpointing: bool,
    **given: Any,
) -> int:
    """Fine-tune a checkpoint on pictures with captions.

    DATA is a folder (metadata.jsonl or captions.csv with file_name and text; or NAME.txt beside each
    picture; or folders as class labels), or .parquet files. The result serves like any checkpoint.

    \b
    Examples:
      siglip train checkpoints/shapes photos/ --out tuned --epochs 3 --learning-rate 1e-4
      siglip train google/siglip-base-patch16-224 pairs.parquet --out tuned --frozen vision
      torchrun --nproc-per-node 2 -m siglip_cli train checkpoints/shapes photos/ --out tuned
    """
    settings = load_settings(TrainSettings, given)
    if settings.template.count("{}") != 1:
        raise SettingsError(f"--template is {settings.template!r}; it must hold exactly one {{}}")
    from siglip_model.finetune.recipe import Recipe
    from siglip_model.finetune.run import finetune

    finetune(
        Recipe(
            checkpoint=checkpoint,
            data=data,
            out=out,
            eval_data=eval_data,
            resume=resume,
            gradient_checkpointing=gradient_checkpointing,
            **vars(settings),
        )
    )
    return exit_codes.OK
