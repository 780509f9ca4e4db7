"""`siglip score`."""

import math
from pathlib import Path
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.calling import Failure, Item, ask_about_images, connected, failure
from siglip_cli.images import Reading, reading_options
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import Report, error_fields, json_option, short
from siglip_cli.result_file import Sink, out_option, result_file
from siglip_cli.text_lists import texts_given
from siglip_settings import ClientSettings

COLUMNS = {"image": str, "text": str, "index": int, "probability": float, "logit": float, "error": str}

Row = list[tuple[float, float]]
"""Logit and probability of each text; NaN for a text that failed."""


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--text", "texts", metavar="TEXT", multiple=True, help="A text; give several.")
@click.option("--texts-file", metavar="FILE", type=click.Path(path_type=Path), help="Texts, one a line.")
@reading_options
@out_option
@json_option
@settings_options(ClientSettings)
def score(
    images: tuple[str, ...],
    texts: tuple[str, ...],
    texts_file: Path | None,
    out: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Say how well each text, taken as it is, describes each image.

    IMAGE is a file, a folder (searched through), a quoted glob, or - for standard input; or a tar, WebDataset
    shards, or a Parquet, CSV or JSON Lines file with a column of images or of their paths.

    \b
    Examples:
      siglip score photo.jpg --text "two dogs play in the snow" --text "a cat on a sofa"
      siglip score "photos/**/*.jpg" --texts-file captions.txt --json
      siglip score photos.parquet --image-column jpg --text "a cat" --out scores.csv
    """
    reading = Reading.take(given, out)
    settings = load_settings(ClientSettings, given)
    all_texts = texts_given(texts, texts_file, "--text")
    report = Report(as_json)
    failed_texts: dict[int, Failure] = {}
    with result_file(out, as_json, COLUMNS) as sink, connected(settings) as client:

        def ask(data: list[bytes]) -> list[Row | Failure]:
            reply = client.score(data, all_texts, on_error="return")
            report.note(str(reply.timing))
            bad = {error.index: failure(error) for error in reply.errors if error.field.startswith("images")}
            for error in reply.errors:
                if error.field.startswith("texts") and error.index not in failed_texts:
                    failed_texts[error.index] = failure(error)
                    report.failed(all_texts[error.index], failure(error))
            pairs = zip(reply.logits.tolist(), reply.probabilities.tolist(), strict=True)
            rows = [list(zip(logits, shares, strict=True)) for logits, shares in pairs]
            return [bad.get(index, row) for index, row in enumerate(rows)]

        for item in ask_about_images(client, images, ask, reading):
            _show(report, item, all_texts, failed_texts, sink)
    return report.exit_code


def _show(
    report: Report, item: Item[Row], texts: list[str], failed_texts: dict[int, Failure], sink: Sink | None
) -> None:
    failed = item.answer if isinstance(item.answer, Failure) else None
    row = [] if isinstance(item.answer, Failure) else item.answer
    if failed:
        report.failed(item.name, failed)
    if sink is not None or report.as_json:
        scores = [
            {
                "text": texts[index],
                "index": index,
                "probability": _number(probability),
                "logit": _number(logit),
                "error": error_fields(failed_texts.get(index)),
            }
            for index, (logit, probability) in enumerate(row)
        ]
        write = sink.write if sink else report.line
        write(image=item.name, scores=scores, error=error_fields(failed))
    elif not failed:
        shares = [(text, share) for text, (_, share) in zip(texts, row, strict=True)]
        report.scores(item.name, [(text, share) for text, share in shares if not math.isnan(share)])


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else short(value)
