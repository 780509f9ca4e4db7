"""Search results as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_cli.errors import CommandError
from siglip_cli.output import one_line
from siglip_cli.pictures import find_pictures
from siglip_cli.queries import Answer
from siglip_jobs.errors import Problem
from siglip_jobs.rows import Content, loaded

if TYPE_CHECKING:
    from siglip_search import EmbeddedFolder, Hit
    from siglip_search.sheet import Tile

PICTURES = 60
"""Of one query: more are no overview, and each is read and decoded."""


def check_target(file: Path) -> None:
    """Before the work is done, not after. Raises CommandError."""
    if file.suffix.lower() != ".png":
        raise CommandError(f"--contact-sheet is {file}; its name must end with .png")
    if not file.parent.is_dir():
        raise CommandError(f"cannot write {file}: there is no folder {file.parent}")


def write_sheet(file: Path, folder: "EmbeddedFolder", answers: Sequence[Answer], place: Path | None) -> None:
    """Draws the first hits of each answer. `place`: where the pictures are, if not where they were."""
    from siglip_search.sheet import Section, contact_sheet

    shown = [list(zip(each.hits, each.probabilities, strict=True))[:PICTURES] for each in answers]
    found = find_pictures(folder, [hit.id for pairs in shown for hit, _ in pairs], place)
    sections = [
        Section(
            f"“{one_line(answer.query)}”",
            f"{len(pairs)} nearest of {folder.rows:,} · {one_line(folder.model_name)}",
            [_tile(hit, share, found.get(hit.id)) for hit, share in pairs],
        )
        for answer, pairs in zip(answers, shown, strict=True)
    ]
    partial = file.with_name(file.name + ".partial")
    try:
        contact_sheet(sections).save(partial, "PNG")
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error


def _tile(hit: "Hit", share: float | None, content: Content | None) -> "Tile":
    from siglip_model.image_decoding import ImageError, ImageLimits, open_image
    from siglip_search.sheet import Tile, small
    from siglip_search.style import percent

    score = f"cos {hit.cosine:.3f}" if share is None else f"{percent(share)} · cos {hit.cosine:.3f}"
    name, limits = one_line(hit.id), ImageLimits()
    data = loaded(content, limits.max_bytes) if content else Problem("IMAGE_NOT_FOUND", "not found")
    if not isinstance(data, bytes):
        return Tile(name, score, None, data.message if isinstance(data, Problem) else "a text")
    try:
        return Tile(name, score, small(open_image(data, limits)))
    except ImageError:
        return Tile(name, score, None, "cannot be decoded")
