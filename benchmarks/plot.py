"""A small line chart, drawn with Pillow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from examples.chart import font

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60
INK, GRID = "#222222", "#dddddd"
COLOURS = ("#1f6feb", "#d1242f", "#57606a")
TICKS = 5


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


def plot(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> Image.Image:
    """Axes begin at zero."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    x_step = round_step(max(x for line in lines for x, _ in line.points))
    y_step = round_step(max(y for line in lines for _, y in line.points))
    right, top = TICKS * x_step, TICKS * y_step

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + x / right * across, HEIGHT - BOTTOM - y / top * down

    pen.text((LEFT, 14), title, INK, font(18))
    pen.text((LEFT, HEIGHT - 24), x_label, INK, font(13))
    pen.text((6, TOP - 20), y_label, INK, font(13))
    for tick in range(TICKS + 1):
        x, y = x_step * tick, y_step * tick
        pen.line([place(0, y), place(right, y)], GRID)
        pen.text((8, place(0, y)[1] - 8), f"{y:,g}", INK, font(12))
        pen.text((place(x, 0)[0] - 8, HEIGHT - BOTTOM + 6), f"{x:,g}", INK, font(12))
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        places = [place(x, y) for x, y in line.points]
        pen.line(places, colour, 3)
        for x, y in places:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        pen.text((WIDTH - 150, HEIGHT - BOTTOM - 26 - 18 * number), line.name, colour, font(13))
    return sheet


def round_step(most: float) -> float:
    """The smallest round number of which TICKS reach `most`."""
    step = 10.0 ** math.floor(math.log10(most / TICKS)) if most else 1.0
    return next(step * factor for factor in (1, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * factor * TICKS >= most)


def beside(*sheets: Image.Image) -> Image.Image:
    together = Image.new("RGB", (sum(sheet.width for sheet in sheets), sheets[0].height), "white")
    for number, sheet in enumerate(sheets):
        together.paste(sheet, (sum(each.width for each in sheets[:number]), 0))
    return together
