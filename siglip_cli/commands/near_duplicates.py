"""`siglip near-duplicates`."""

from pathlib import Path

import click

from siglip_cli import exit_codes
from siglip_cli.looking import folder_option, open_folder, tell_failed
from siglip_cli.options import Command
from siglip_cli.output import Report, json_option, one_line, short


@click.command("near-duplicates", cls=Command, epilog=exit_codes.EPILOG)
@folder_option
@click.option(
    "--threshold",
    metavar="COSINE",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Rows with a cosine of at least this belong together.",
)
@json_option
def near_duplicates(place: Path, threshold: float, as_json: bool) -> int:
    """Group the rows of an embedded folder that are nearly the same.

    Every row is compared with every other, so that twice the rows take four times as long. A row is in
    a group if it is near to any of its members. No service is needed.

    \b
    Examples:
      siglip near-duplicates --in vectors/
      siglip near-duplicates --in vectors/ --threshold 0.99 --json
    """
    from siglip_search import near_duplicates as find

    folder = open_folder(place)
    found = find(folder, threshold)
    tell_failed(found.failed, found.rows)
    report = Report(as_json)
    for number, group in enumerate(found.groups, 1):
        if report.as_json:
            items = [{"id": member.id, "cosine": short(member.cosine)} for member in group.members]
            report.line(group=number, items=items)
            continue
        if report.for_people:
            click.secho(f"group {number}: {len(group.members)} rows", bold=True)
        for member in group.members:
            name = one_line(member.id)
            click.echo(
                f"  {member.cosine:.4f}  {name}"
                if report.for_people
                else f"{number}\t{member.cosine:.6f}\t{name}"
            )
    inside = sum(len(group.members) for group in found.groups)
    report.note(f"{len(found.groups):,} groups with {inside:,} of {found.rows:,} rows")
    return exit_codes.OK
