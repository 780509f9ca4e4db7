"""One picture of many: each with bars for its most probable labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from siglip_search.style import (
    BEST,
    CARD,
    EDGE,
    FAINT,
    INK,
    OTHER,
    PAPER,
    TRACK,
    VISIBLE,
    fitted,
    font,
    percent,
)

MARGIN, GAP, PADDING = 28, 20, 14
PICTURE = (336, 252)
BAR_ROW, BAR_HEIGHT = 42, 7
TITLE_HEIGHT, FOOTER_HEIGHT = 64, 40
COLUMNS = 3


@dataclass(frozen=True)
class Card:
    """One picture, its name, and (label, probability) pairs, the highest first."""

    name: str
    picture: Image.Image
    bars: Sequence[tuple[str, float]]


def draw_chart(title: str, cards: Sequence[Card], footer: str) -> Image.Image:
    columns = min(COLUMNS, len(cards))
    rows = -(-len(cards) // columns)
    width, height = card_size(max(len(card.bars) for card in cards))
    sheet = Image.new(
        "RGB",
        (
            2 * MARGIN + columns * width + (columns - 1) * GAP,
            2 * MARGIN + TITLE_HEIGHT + rows * height + (rows - 1) * GAP + FOOTER_HEIGHT,
        ),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * MARGIN
    pen.text((MARGIN, MARGIN + 4), fitted(title, room, 30), INK, font(30))
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        x, y = MARGIN + column * (width + GAP), MARGIN + TITLE_HEIGHT + row * (height + GAP)
        draw_card(sheet, card, (x, y, x + width, y + height))
    pen.text((MARGIN, sheet.height - MARGIN - 18), fitted(footer, room, 17), FAINT, font(17))
    return sheet


def card_size(bars: int) -> tuple[int, int]:
    return PICTURE[0] + 2 * PADDING, PICTURE[1] + 2 * PADDING + 34 + bars * BAR_ROW


def draw_card(sheet: Image.Image, card: Card, box: tuple[int, int, int, int]) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.rounded_rectangle(box, 12, CARD, EDGE)
    x, y = box[0] + PADDING, box[1] + PADDING
    sheet.paste(ImageOps.pad(card.picture.convert("RGB"), PICTURE, color=TRACK), (x, y))
    y += PICTURE[1] + 10
    pen.text((x, y), fitted(card.name, PICTURE[0], 16), FAINT, font(16))
    for rank, (label, probability) in enumerate(card.bars):
        draw_bar(pen, label, probability, (x, y + 26 + rank * BAR_ROW), BEST if rank == 0 else OTHER)


def draw_bar(
    pen: ImageDraw.ImageDraw, label: str, probability: float, at: tuple[int, int], colour: str
) -> None:
    (x, y), width = at, PICTURE[0]
    number = percent(probability)
    pen.text((x + width, y), number, INK, font(17), anchor="ra")
    pen.text((x, y), fitted(label, width - font(17).getlength(number) - 12, 17), INK, font(17))
    top, end = y + 25, x + width * probability
    pen.rectangle((x, top, x + width, top + BAR_HEIGHT), TRACK)
    if probability >= VISIBLE:
        pen.rectangle((x, top, end, top + BAR_HEIGHT), colour)
