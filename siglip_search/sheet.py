"""A contact sheet: for each query a grid of pictures, the best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from siglip_search.style import BEST, CARD, EDGE, FAINT, INK, OTHER, PAPER, TRACK, fitted, font

PICTURE = (232, 174)
PADDING, GAP, MARGIN = 10, 16, 28
TILE = (PICTURE[0] + 2 * PADDING, PICTURE[1] + 2 * PADDING + 52)
TITLE_HEIGHT, SECTION_GAP = 76, 24
MOST_COLUMNS = 6
BADGE_HEIGHT = 24


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture with its score and name; without a picture, `missing` says why in a few words."""

    name: str
    score: str
    picture: Image.Image | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    subtitle: str
    tiles: Sequence[Tile]


def contact_sheet(sections: Sequence[Section]) -> Image.Image:
    columns = columns_for(max(len(section.tiles) for section in sections))
    heights = [_height(section, columns) for section in sections]
    size = (
        2 * MARGIN + columns * (TILE[0] + GAP) - GAP,
        2 * MARGIN + sum(heights) + SECTION_GAP * (len(sections) - 1),
    )
    sheet = Image.new("RGB", size, PAPER)
    top = MARGIN
    for section, height in zip(sections, heights, strict=True):
        _draw_section(sheet, section, columns, top)
        top += height + SECTION_GAP
    return sheet


def columns_for(tiles: int) -> int:
    """As many that the sheet is about as wide as high; at least two, so that a title has room."""
    return max(2, min(MOST_COLUMNS, math.ceil(math.sqrt(tiles))))


def small(picture: Image.Image) -> Image.Image:
    """Fits a tile, so that many can be held."""
    return ImageOps.pad(picture.convert("RGB"), PICTURE, color=TRACK)


def _height(section: Section, columns: int) -> int:
    rows = max(1, -(-len(section.tiles) // columns))
    return TITLE_HEIGHT + rows * (TILE[1] + GAP) - GAP


def _draw_section(sheet: Image.Image, section: Section, columns: int, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * MARGIN
    pen.text((MARGIN, top), fitted(section.title, room, 28), INK, font(28))
    pen.text((MARGIN, top + 40), fitted(section.subtitle, room, 15), FAINT, font(15))
    for number, tile in enumerate(section.tiles):
        row, column = divmod(number, columns)
        left = MARGIN + column * (TILE[0] + GAP)
        _draw_tile(sheet, tile, number + 1, left, top + TITLE_HEIGHT + row * (TILE[1] + GAP))


def _draw_tile(sheet: Image.Image, tile: Tile, rank: int, left: int, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.rounded_rectangle((left, top, left + TILE[0], top + TILE[1]), 12, CARD, EDGE)
    x, y = left + PADDING, top + PADDING
    if tile.picture:
        sheet.paste(tile.picture, (x, y))
    else:
        _draw_placeholder(pen, x, y, tile.missing)
    y += PICTURE[1] + 10
    badge = font(14).getlength(str(rank)) + 16
    pen.rounded_rectangle((x, y, x + badge, y + BADGE_HEIGHT), 12, BEST if rank == 1 else OTHER)
    pen.text(
        (x + badge / 2, y + BADGE_HEIGHT / 2), str(rank), CARD if rank == 1 else INK, font(14), anchor="mm"
    )
    pen.text((x + PICTURE[0], y + BADGE_HEIGHT / 2), tile.score, INK, font(16), anchor="rm")
    pen.text((x, y + 30), tail(tile.name, PICTURE[0], 14), FAINT, font(14))


def _draw_placeholder(pen: ImageDraw.ImageDraw, x: int, y: int, why: str) -> None:
    """A grey field with the outline of a picture."""
    width, height = PICTURE
    pen.rectangle((x, y, x + width - 1, y + height - 1), TRACK)
    a, b, middle = y + 44, y + 100, x + width // 2
    pen.rounded_rectangle((middle - 38, a, middle + 38, b), 8, outline=OTHER, width=3)
    pen.ellipse((middle + 12, a + 11, middle + 24, a + 23), OTHER)
    pen.polygon([(middle - 28, b - 9), (middle - 8, a + 20), (middle + 14, b - 9)], OTHER)
    pen.text((middle, y + 124), fitted(why, width - 16, 14), FAINT, font(14), anchor="mm")


def tail(text: str, width: float, size: int) -> str:
    """The text, cut at its beginning: paths differ at their ends."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
