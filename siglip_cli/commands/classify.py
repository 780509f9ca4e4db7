"""`siglip classify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siglip_cli import exit_codes
from siglip_cli.calling import Failure, Item, ask_about_images, connected, failure
from siglip_cli.images import Reading, reading_options
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import Report, error_fields, json_option, short
from siglip_cli.result_file import Sink, out_option, result_file
from siglip_cli.text_lists import texts_given
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_client import ImageLabels, LabelScore


COLUMNS = {
    "image": str,
    "label": str,
    "index": int,
    "probability": float,
    "logit": float,
    "cosine": float,
    "error": str,
}
MAX_TOP_K = 2**32 - 1  # uint32 in the request


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="A label; give several.")
@click.option("--labels-file", metavar="FILE", type=click.Path(path_type=Path), help="Labels, one a line.")
@click.option(
    "--template",
    "templates",
    metavar="TEXT",
    multiple=True,
    help="A sentence with {} for the label; several are averaged. [default: the model's]",
)
@click.option("--softmax", is_flag=True, help="Labels compete: probabilities sum to 1.")
@click.option(
    "--top-k", metavar="N", type=click.IntRange(0, MAX_TOP_K), default=0, help="Only the best N labels."
)
@click.option(
    "--threshold",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Only labels of at least this probability.",
)
@reading_options
@out_option
@json_option
@settings_options(ClientSettings)
def classify(
    images: tuple[str, ...],
    labels: tuple[str, ...],
    labels_file: Path | None,
    templates: tuple[str, ...],
    softmax: bool,
    top_k: int,
    threshold: float,
    out: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Say how probable each label is for each image.

    IMAGE is a file, a folder (searched through), a quoted glob, or - for standard input; or a tar, WebDataset
    shards, or a Parquet, CSV or JSON Lines file with a column of images or of their paths.

    \b
    Examples:
      siglip classify photo.jpg --label "a cat" --label "a dog"
      siglip classify photos/ --labels-file labels.txt --top-k 3 --json
      siglip classify "shards-{000..127}.tar" --labels-file labels.txt --top-k 1 --out best.parquet
      curl -s https://example.org/cat.jpg | siglip classify - --label cat --label dog --softmax
    """
    reading = Reading.take(given, out)
    settings = load_settings(ClientSettings, given)
    all_labels = texts_given(labels, labels_file, "--label")
    report = Report(as_json)
    with result_file(out, as_json, COLUMNS) as sink, connected(settings) as client:

        def ask(data: list[bytes]) -> list["ImageLabels | Failure"]:
            reply = client.classify(
                data,
                all_labels,
                templates=templates or None,
                activation="softmax" if softmax else "sigmoid",
                top_k=top_k,
                threshold=threshold,
                on_error="return",
            )
            report.note(str(reply.timing))
            return [failure(image.error) if image.error else image for image in reply]

        for item in ask_about_images(client, images, ask, reading):
            _show(report, item, sink)
    return report.exit_code


def _show(report: Report, item: "Item[ImageLabels]", sink: Sink | None) -> None:
    failed = item.answer if isinstance(item.answer, Failure) else None
    labels = [] if isinstance(item.answer, Failure) else list(item.answer)
    if failed:
        report.failed(item.name, failed)
    if sink is None and not report.as_json:
        if not failed:
            report.scores(item.name, [(label.label, label.probability) for label in labels])
        return
    write = sink.write if sink else report.line
    write(image=item.name, labels=[_fields(label) for label in labels], error=error_fields(failed))


def _fields(label: "LabelScore") -> dict[str, Any]:
    return {
        "label": label.label,
        "index": label.index,
        "probability": short(label.probability),
        "logit": short(label.logit),
        "cosine": short(label.cosine),
    }
