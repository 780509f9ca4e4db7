"""Small line charts, drawn with Pillow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from siglip_search.style import fitted, font

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 30
LEGEND_ROW, LEGEND_COLUMNS = 18, 2
INK, GRID = "#222222", "#dddddd"
COLOURS = ("#1f6feb", "#d1242f", "#57606a", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7a8c", "#111111")
TICKS = 5
MARKED_POINTS = 20


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


def plot(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> Image.Image:
    """Axes begin at zero; the names of the lines stand below."""
    legend_rows = math.ceil(len(lines) / LEGEND_COLUMNS)
    sheet = Image.new("RGB", (WIDTH, HEIGHT + LEGEND_ROW * legend_rows + 8), "white")
    pen = ImageDraw.Draw(sheet)
    x_step = round_step(max((x for line in lines for x, _ in line.points), default=0))
    y_step = round_step(max((y for line in lines for _, y in line.points), default=0))
    right, top = TICKS * x_step, TICKS * y_step

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + x / right * across, HEIGHT - BOTTOM - y / top * down

    pen.text((LEFT, 8), title, INK, font(18))
    pen.text((WIDTH - RIGHT, 12), x_label, INK, font(13), anchor="ra")
    pen.text((6, TOP - 28), y_label, INK, font(13))
    for tick in range(TICKS + 1):
        x, y = x_step * tick, y_step * tick
        pen.line([place(0, y), place(right, y)], GRID)
        pen.text((8, place(0, y)[1] - 8), f"{y:,g}", INK, font(12))
        pen.text((place(x, 0)[0], HEIGHT - BOTTOM + 6), f"{x:,g}", INK, font(12), anchor="ma")
    marked = max((len(line.points) for line in lines), default=0) <= MARKED_POINTS
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y in line.points]
        pen.line(places, colour, 3)
        for x, y in places if marked else ():
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        row, column = divmod(number, LEGEND_COLUMNS)
        width = (WIDTH - LEFT) // LEGEND_COLUMNS
        at = (LEFT + column * width, HEIGHT + row * LEGEND_ROW)
        pen.text(at, fitted(line.name, width - 8, 13), colour, font(13))
    return sheet


def round_step(most: float) -> float:
    """The smallest round number of which TICKS reach `most`."""
    step = 10.0 ** math.floor(math.log10(most / TICKS)) if most else 1.0
    return next(step * factor for factor in (1, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * factor * TICKS >= most)


def beside(*sheets: Image.Image) -> Image.Image:
    """From left to right."""
    size = (sum(sheet.width for sheet in sheets), max(sheet.height for sheet in sheets))
    together = Image.new("RGB", size, "white")
    for number, sheet in enumerate(sheets):
        together.paste(sheet, (sum(each.width for each in sheets[:number]), 0))
    return together


def below(*sheets: Image.Image) -> Image.Image:
    """From top to bottom."""
    size = (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets))
    together = Image.new("RGB", size, "white")
    for number, sheet in enumerate(sheets):
        together.paste(sheet, (0, sum(each.height for each in sheets[:number])))
    return together
