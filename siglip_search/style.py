"""Colours and letters of the pictures that are drawn: charts and contact sheets."""

from functools import cache

from PIL import ImageFont

PAPER, CARD, EDGE, TRACK = "#f3f4f7", "#ffffff", "#dfe2e8", "#e9ecf1"
INK, FAINT, BEST, OTHER = "#1d2433", "#5d6678", "#2f6fed", "#a9b8d3"

VISIBLE = 0.0005  # smaller probabilities are shown as "< 0.1 %"


def percent(probability: float) -> str:
    return f"{100 * probability:.1f} %" if probability >= VISIBLE else "< 0.1 %"


def fitted(text: str, width: float, size: int) -> str:
    """The text, cut with an ellipsis where it would be too wide."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, so that pictures look the same on every machine."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found
