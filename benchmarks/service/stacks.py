"""Bars made of parts, side by side, drawn with Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from benchmarks.plot import COLOURS, GRID, INK, TICKS, round_step
from siglip_search.style import font

WIDTH, ROW, BAR = 1120, 46, 26
LEFT, RIGHT, TOP, BOTTOM = 170, 70, 56, 34
LEGEND_ROW = 22
LEAST_SHARE_WITH_NUMBER = 0.05


@dataclass(frozen=True)
class Stack:
    name: str
    parts: Mapping[str, float]


def stacks(title: str, unit: str, rows: Sequence[Stack], names: Sequence[str]) -> Image.Image:
    """The parts from left to right in the order of `names`, which stand below with their colours."""
    step = round_step(max(sum(row.parts.values()) for row in rows))
    bottom = TOP + ROW * len(rows)
    sheet = Image.new("RGB", (WIDTH, bottom + BOTTOM + LEGEND_ROW + 8), "white")
    pen = ImageDraw.Draw(sheet)

    def place(value: float) -> float:
        return LEFT + value / (TICKS * step) * (WIDTH - LEFT - RIGHT)

    pen.text((14, 10), title, INK, font(18))
    pen.text((WIDTH - RIGHT, 14), unit, INK, font(13), anchor="ra")
    for tick in range(TICKS + 1):
        x = place(tick * step)
        pen.line([(x, TOP - 6), (x, bottom)], GRID)
        pen.text((x, bottom + 6), f"{tick * step:,g}", INK, font(12), anchor="ma")
    for number, row in enumerate(rows):
        middle, at = TOP + ROW * number + ROW / 2, 0.0
        pen.text((LEFT - 10, middle), row.name, INK, font(14), anchor="rm")
        for name in names:
            value = row.parts.get(name, 0.0)
            box = (place(at), middle - BAR / 2, place(at + value), middle + BAR / 2)
            pen.rectangle(box, COLOURS[names.index(name)], "white")
            if value > LEAST_SHARE_WITH_NUMBER * TICKS * step:
                pen.text(((box[0] + box[2]) / 2, middle), f"{value:,.0f}", "white", font(12), anchor="mm")
            at += value
        pen.text((place(at) + 6, middle), f"{at:,.0f}", INK, font(12), anchor="lm")
    across = 14.0
    for number, name in enumerate(names):
        top = bottom + BOTTOM
        pen.rectangle((across, top + 3, across + 12, top + 15), COLOURS[number])
        pen.text((across + 18, top), name, INK, font(13))
        across += 18 + pen.textlength(name, font(13)) + 22
    return sheet
