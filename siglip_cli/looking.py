"""What the commands that look through an embedded folder share."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from siglip_cli import images
from siglip_cli.errors import CommandError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from siglip_client import Client, Embeddings, ModelDescription
    from siglip_search import EmbeddedFolder

    Vectors = npt.NDArray[np.float32]

F = TypeVar("F", bound=Callable[..., Any])


def folder_option(function: F) -> F:
    kind = click.Path(path_type=Path)
    return click.option(
        "--in", "place", metavar="DIR", required=True, type=kind, help="A folder that 'siglip embed' filled."
    )(function)


def open_folder(place: Path) -> "EmbeddedFolder":
    """Says on standard error if the job has not ended. Raises SearchError, CommandError for no rows."""
    from siglip_search import EmbeddedFolder

    folder = EmbeddedFolder(place)
    if not folder.rows:
        raise CommandError(f"{place} holds no rows{'' if folder.complete else ' yet'}")
    if not folder.complete:
        click.echo(f"siglip: the job of {place} has not ended: {folder.rows:,} rows so far", err=True)
    return folder


def tell_failed(failed: int, rows: int) -> None:
    if failed:
        click.echo(f"siglip: {failed:,} of {rows:,} rows have no vector and were left out", err=True)


def refuse_other_model(folder: "EmbeddedFolder", served: "ModelDescription", address: str) -> None:
    """Raises CommandError that names both."""
    if served.fingerprint != folder.fingerprint:
        raise CommandError(
            f"{folder.path} was made by {folder.model_name} ({folder.fingerprint}), and {address} serves "
            f"{served.name} ({served.fingerprint}): vectors of different models cannot be compared"
        )


def embed_texts(client: "Client", texts: Sequence[str]) -> "Vectors":
    """float32 [n, dim]. Raises CommandError for one that is refused."""
    return _vectors(texts, client.embed_texts(texts, on_error="return"))


def embed_files(client: "Client", files: Sequence[str], max_bytes: int) -> "Vectors":
    """float32 [n, dim]. Raises CommandError for one that is refused or cannot be read."""
    return _vectors(files, client.embed_images([_read(name, max_bytes) for name in files], on_error="return"))


def probability(served: "ModelDescription", cosine: float) -> float:
    """That a text and an image with this cosine belong together."""
    logit = served.logit_scale * cosine + served.logit_bias
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _vectors(names: Sequence[str], reply: "Embeddings") -> "Vectors":
    for error in reply.errors:
        raise CommandError(f"{names[error.index]}: {error.message} ({error.reason})")
    return reply.vectors


def _read(name: str, max_bytes: int) -> bytes:
    try:
        return images.read(images.Source(name), max_bytes)
    except images.Unreadable as error:
        raise CommandError(f"{name}: {error} ({error.reason})") from None
