"""Search results as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_cli.errors import CommandError
from siglip_cli.output import one_line
from siglip_cli.queries import Answer
from siglip_jobs import names

if TYPE_CHECKING:
    from siglip_search import EmbeddedFolder, Hit
    from siglip_search.sheet import Tile

PICTURES = 60
"""Of one query: more are no overview, and each is read and decoded."""


def check_target(file: Path) -> None:
    """Before the work is done, not after. Raises CommandError."""
    if file.suffix.lower() != ".png":
        raise CommandError(f"--contact-sheet is {file}; its name must end with .png")
    if not (file.parent).is_dir():
        raise CommandError(f"cannot write {file}: there is no folder {file.parent}")


def write_sheet(
    file: Path, folder: "EmbeddedFolder", answers: Sequence[Answer], pictures: Path | None
) -> None:
    """Draws the first hits of each answer. `pictures`: their folder now, if they are not where they were."""
    from siglip_search.sheet import Section, contact_sheet

    place = pictures or _place(folder)
    sections = [
        Section(
            f"“{one_line(answer.query)}”",
            f"{min(len(answer.hits), PICTURES)} nearest of {folder.rows:,} · {one_line(folder.model_name)}",
            [
                _tile(hit, share, place)
                for hit, share in list(zip(answer.hits, answer.probabilities, strict=True))[:PICTURES]
            ],
        )
        for answer in answers
    ]
    partial = file.with_name(file.name + ".partial")
    try:
        contact_sheet(sections).save(partial, "PNG")
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error


def _tile(hit: "Hit", share: float | None, place: Path | None) -> "Tile":
    from siglip_model.image_decoding import ImageError, ImageLimits, open_image
    from siglip_search.sheet import Tile, small
    from siglip_search.style import percent

    score = f"cos {hit.cosine:.3f}" if share is None else f"{percent(share)} · cos {hit.cosine:.3f}"
    name, limits = one_line(hit.id), ImageLimits()
    if place is None:
        return Tile(name, score, None, "not a file of its own")
    try:
        with (place / names.unescape(hit.id)).open("rb") as opened:
            return Tile(name, score, small(open_image(opened.read(limits.max_bytes + 1), limits)))
    except ImageError:
        return Tile(name, score, None, "cannot be decoded")
    except FileNotFoundError:
        return Tile(name, score, None, "not found")
    except (OSError, ValueError):
        return Tile(name, score, None, "cannot be read")


def _place(folder: "EmbeddedFolder") -> Path | None:
    root = folder.manifest.get("source", {}).get("root")
    return Path(names.unescape(root)) if root else None
