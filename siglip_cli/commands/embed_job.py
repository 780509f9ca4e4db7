"""`siglip embed`."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from siglip_cli import exit_codes
from siglip_cli.calling import connected
from siglip_cli.job_display import JobDisplay, told
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import one_line
from siglip_settings import JobSettings
from siglip_settings.cores import usable_cores

if TYPE_CHECKING:
    from siglip_jobs.choice import Choice
    from siglip_jobs.job import Job
    from siglip_jobs.options import Summary

F = TypeVar("F", bound=Callable[..., Any])
FINISH_S = 10
"""For what is in work, when a signal comes."""


def source_options(function: F) -> F:
    """What of a source is read: for every command that takes one."""
    for option in (
        click.option("--columns", metavar="A,B", help="Columns to keep beside the result."),
        click.option(
            "--id-column", metavar="NAME", help="Column that names the rows. Default: id, if there is one."
        ),
        click.option("--image-column", metavar="NAME", help="Column of encoded images, as bytes or base64."),
        click.option("--path-column", metavar="NAME", help="Column of names of image files."),
        click.option("--text-column", metavar="NAME", help="Column of texts."),
        click.option(
            "--paths", is_flag=True, help="Lines of standard input name image files; default: texts."
        ),
    ):
        function = option(function)
    return function


def take_choice(given: dict[str, Any]) -> "Choice":
    """Takes the columns of `source_options` out of what was given."""
    from siglip_jobs.choice import Choice

    kept = tuple(name for name in (given.pop("columns") or "").split(",") if name)
    named = {f"{kind}_column": given.pop(f"{kind}_column") for kind in ("text", "path", "image", "id")}
    return Choice(**named, columns=kept)


@click.command("embed", cls=Command, epilog=exit_codes.EPILOG)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder for the result."
)
@source_options
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "npy"]),
    default="parquet",
    help="npy: matrices, with ids as JSON Lines beside them. [default parquet]",
)
@click.option(
    "--dtype", type=click.Choice(["f32", "f16"]), default="f32", help="Of the numbers. [default f32]"
)
@click.option("--verify", is_flag=True, help="First compare all that is written with its checksums.")
@click.option("--shard", metavar="I/N", default="0/1", help="Only share I of N, counted from 0.")
@settings_options(JobSettings)
def embed(
    source: str,
    out: Path,
    file_format: Literal["parquet", "npy"],
    dtype: Literal["f32", "f16"],
    verify: bool,
    shard: str,
    paths: bool,
    **given: Any,
) -> int:
    """Embed any number of images or texts into a folder of vectors.

    SOURCE is a folder or quoted glob of images; .tar archives or WebDataset shards; Parquet, CSV or JSON
    Lines files with a column of texts, paths or image bytes; or - for standard input.

    Stopped or killed, the same command continues where it was: nothing that is written is computed again.
    With --shard, N machines do one job: each its own I, all the same --out or each its own.

    \b
    Examples:
      siglip embed photos/ --out vectors
      siglip embed 'shards/{000..099}.tar' --out vectors --columns caption --dtype f16
      siglip embed captions.parquet --text-column caption --id-column key --out vectors
      cat queries.txt | siglip embed - --out vectors --format npy
    """
    choice = take_choice(given)
    settings = load_settings(JobSettings, given)
    from siglip_client import SiglipError
    from siglip_jobs.job import Job
    from siglip_jobs.options import Options
    from siglip_jobs.shards import Shard
    from siglip_jobs.sources import open_source

    options = Options(
        format=file_format,
        dtype=dtype,
        shard=Shard.parse(shard),
        verify=verify,
        decode=settings.decode,
        decode_processes=settings.decoders or usable_cores(),
        rows_per_part=settings.rows_per_part,
        part_every_s=settings.part_every_s,
        patience_s=settings.patience_s,
    )
    opened = open_source(source, choice, paths=paths, out=out)
    display = JobDisplay()
    with connected(settings) as client:
        job = Job(opened, out, client, options, display.show)
        try:
            with _stopped_by_signals(job, display):
                summary = job.run()
        except SiglipError:
            if job.is_stopping:
                return exit_codes.INTERRUPTED
            if out.exists():
                display.say(f"what was answered is in {one_line(str(out))}; the same command continues")
            raise
        finally:
            display.close()
    return _tell(summary, out, display)


def _tell(summary: "Summary", out: Path, display: JobDisplay) -> int:
    place = one_line(str(out))
    if summary.unverified_parts:
        display.say(f"{summary.unverified_parts:,} parts in {place} were not verified: no checksums")
    if not summary.finished:
        display.say(f"stopped with {summary.rows:,} rows in {place}; the same command continues")
        return exit_codes.INTERRUPTED
    if summary.vanished:
        first = ", ".join(map(one_line, summary.vanished_ids))
        display.say(f"{summary.vanished:,} rows are of files that are not there any more; kept: {first} ...")
    click.echo(told(summary, place))
    if summary.failed or summary.duplicates:
        display.say(f"what failed is listed in {place}/errors.jsonl")
    return exit_codes.OK if summary.all_right else exit_codes.SOME_FAILED


@contextmanager
def _stopped_by_signals(job: "Job", display: JobDisplay) -> Iterator[None]:
    """The first one stops the job, a second one or some seconds more abandon what is in work."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM and not job.is_stopping:
            signal.alarm(FINISH_S)
            job.stop()
            display.say("finishing what is in work ...")
        else:  # not here: the locks that this thread may hold are not for a handler to wait for
            threading.Thread(target=job.abandon, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (*signals, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
