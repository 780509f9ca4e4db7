"""`siglip search`."""

from pathlib import Path
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.contact_sheet import check_target, write_sheet
from siglip_cli.looking import folder_option, open_folder, tell_failed
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import BAR_CELLS, Report, bar, json_option, one_line, probability_text, short
from siglip_cli.queries import Answer, Queries, answer
from siglip_settings import ClientSettings


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@folder_option
@click.option("--image", "files", metavar="FILE", multiple=True, help="Look for what is like this image.")
@click.option(
    "--like", "ids", metavar="ID", multiple=True, help="Look for what is like this row of the folder."
)
@click.option(
    "--top-k",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    help="The best N rows.",
)
@click.option(
    "--contact-sheet",
    metavar="FILE.png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the best 60 as pictures.",
)
@click.option(
    "--pictures",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where the pictures are now. [default: where the job found them]",
)
@json_option
@settings_options(ClientSettings)
def search(
    texts: tuple[str, ...],
    place: Path,
    files: tuple[str, ...],
    ids: tuple[str, ...],
    top_k: int,
    contact_sheet: Path | None,
    pictures: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Find the rows of an embedded folder that are nearest to texts, images or other rows.

    The folder is one that 'siglip embed' filled, also one that it still fills. Every row is compared.
    Texts are taken as they are; so "a photo of a cat" may find more than "cat".

    \b
    Examples:
      siglip search "a red square" --in vectors/ --contact-sheet best.png
      siglip search --image photo.jpg --in vectors/ --top-k 50 --json
      siglip search --like 2024/07/IMG_0042.jpg --in vectors/
    """
    settings = load_settings(ClientSettings, given)
    queries = Queries(texts, files, ids)
    if not queries:
        raise click.UsageError("give a TEXT, an --image or a --like to look for")
    if contact_sheet:
        check_target(contact_sheet)
    folder = open_folder(place)
    answers, failed = answer(settings, folder, queries, top_k)
    tell_failed(failed, folder.rows)
    report = Report(as_json)
    for each in answers:
        _show(report, each)
    if contact_sheet:
        write_sheet(contact_sheet, folder, answers, pictures)
        report.note(f"contact sheet: {contact_sheet}")
    return exit_codes.OK


def _show(report: Report, found: Answer) -> None:
    query = one_line(found.query)
    if report.for_people:
        click.secho(query, bold=True)
    for rank, (hit, share) in enumerate(zip(found.hits, found.probabilities, strict=True), 1):
        shown = "" if share is None else probability_text(share)
        if report.as_json:
            numbers = {"cosine": short(hit.cosine), "probability": None if share is None else short(share)}
            report.line(query=found.query, rank=rank, id=hit.id, **numbers)
        elif report.for_people:
            length = bar(max(0.0, hit.cosine if share is None else share))
            click.echo(
                f"  {rank:>4}  {hit.cosine:7.4f}  {shown:>7}  {length:{BAR_CELLS}}  {one_line(hit.id)}"
            )
        else:
            click.echo(f"{query}\t{rank}\t{hit.cosine:.6f}\t{shown}\t{one_line(hit.id)}")
