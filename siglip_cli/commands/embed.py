"""`siglip embed-text` and `siglip embed-image`."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from siglip_cli import exit_codes
from siglip_cli.calling import Failure, Item, ask_about_images, ask_about_texts, connected, failure
from siglip_cli.errors import CommandError
from siglip_cli.options import Command, load_settings, settings_options
from siglip_cli.output import Report, error_fields, json_option, one_line, short
from siglip_cli.text_lists import stdin_lines
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from siglip_client import Client, Embeddings

    Vector = npt.NDArray[np.float32]

F = TypeVar("F", bound=Callable[..., Any])
SHOWN_NUMBERS = 6


def _embed_options(function: F) -> F:
    for option in (
        settings_options(ClientSettings),
        json_option,
        click.option("--raw", is_flag=True, help="Keep the length that the model gives; default: length 1."),
        click.option(
            "--out",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write a .npy file, float32 [items, dim]; a failed item is a row of NaN.",
        ),
    ):
        function = option(function)
    return function


@click.command("embed-text", cls=Command, epilog=exit_codes.EPILOG)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@_embed_options
def embed_text(texts: tuple[str, ...], out: Path | None, raw: bool, as_json: bool, **given: Any) -> int:
    """Turn texts into vectors. Without TEXT, each line of standard input is one.

    \b
    Examples:
      siglip embed-text "a red circle" --json
      siglip embed-text --out captions.npy < captions.txt
    """
    settings = load_settings(ClientSettings, given)
    _check_out(out)
    all_texts = list(texts) or stdin_lines()
    with connected(settings) as client:
        items = ask_about_texts(
            client,
            all_texts,
            lambda block: _answers(client.embed_texts(block, normalize=not raw, on_error="return")),
        )
        return _deliver(client, items, "text", out, as_json)


@click.command("embed-image", cls=Command, epilog=exit_codes.EPILOG)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@_embed_options
def embed_image(images: tuple[str, ...], out: Path | None, raw: bool, as_json: bool, **given: Any) -> int:
    """Turn images into vectors.

    IMAGE is a file, a folder (searched through), a quoted glob, or - for standard input.

    \b
    Examples:
      siglip embed-image photo.jpg --json
      siglip embed-image photos/ --out photos.npy > names.txt
    """
    settings = load_settings(ClientSettings, given)
    _check_out(out)
    with connected(settings) as client:
        items = ask_about_images(
            client,
            images,
            lambda block: _answers(client.embed_images(block, normalize=not raw, on_error="return")),
        )
        return _deliver(client, items, "image", out, as_json)


def _answers(reply: "Embeddings") -> list["Vector | Failure"]:
    bad = {error.index: failure(error) for error in reply.errors}
    return [bad.get(index, vector) for index, vector in enumerate(reply.vectors)]


def _deliver(
    client: "Client", items: Iterator[Item["Vector"]], kind: str, out: Path | None, as_json: bool
) -> int:
    """Prints the items; with `out`, their row there instead of their numbers."""
    report = Report(as_json)
    rows: list[Vector | None] = []
    for number, item in enumerate(items):
        vector = None if isinstance(item.answer, Failure) else item.answer
        failed = item.answer if isinstance(item.answer, Failure) else None
        if out:
            rows.append(vector)
        if failed:
            report.failed(item.name, failed)
        if report.as_json:
            place = {"row": number} if out else {"embedding": _numbers(vector)}
            report.line(**{kind: item.name}, **place, error=error_fields(failed))
        elif out:
            click.echo(f"{number}\t{one_line(item.name)}")
        elif vector is not None:
            click.echo(f"{one_line(item.name)}\t{_preview(vector)}")
    if out:
        _save(out, rows, client.get_model().embedding_dim)
    return report.exit_code


def _numbers(vector: "Vector | None") -> list[float] | None:
    return None if vector is None else [short(number) for number in vector.tolist()]


def _preview(vector: "Vector") -> str:
    first = ", ".join(f"{number:.4f}" for number in vector[:SHOWN_NUMBERS].tolist())
    return f"[{first}, ...] {len(vector)} numbers (all of them: --json or --out)"


def _check_out(out: Path | None) -> None:
    """Before the work is done, not after."""
    if out and not (folder := _target(out).parent).is_dir():
        raise CommandError(f"cannot write {out}: there is no folder {folder}")
    # A new file takes the place of the old one, which must not be done to a device or a pipe.
    if out and out.exists() and not out.is_file():
        raise CommandError(f"cannot write {out}: it is not a regular file")


def _target(out: Path) -> Path:
    """Where a link leads: the link itself stays."""
    return Path(os.path.realpath(out))


def _save(out: Path, rows: Iterable["Vector | None"], dim: int) -> None:
    import numpy as np

    filled = [np.full(dim, np.nan, np.float32) if row is None else row for row in rows]
    matrix = np.array(filled, np.float32).reshape(-1, dim)
    # Under another name first: a reader never sees half a file.
    target = _target(out)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.save(file, matrix)
        partial.replace(target)
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}") from error
