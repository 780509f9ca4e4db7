"""The whole measurement: the demo checkpoint with all its limits and peers, then the large one."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.service import bars, inputs, load, peers, plan
from benchmarks.service.bars import Bar
from benchmarks.service.book import Measured
from benchmarks.service.decode_alone import DecodeAlone
from benchmarks.service.model_rate import ModelRate
from benchmarks.service.ours import Ours, serving
from benchmarks.service.plan import Cell
from benchmarks.service.rounds import Limits, Round, large_round, one_round, text_round
from siglip_model.config import SiglipConfig
from siglip_settings.cores import usable_cores

Say = Callable[[str], None]
Cells = list[tuple[Cell, Measured]]


@dataclass
class Results:
    seconds: float
    machine: str = field(default_factory=machine.describe)
    cores: int = field(default_factory=usable_cores)
    rounds: list[Round] = field(default_factory=list)
    text_rounds: list[Round] = field(default_factory=list)
    cells: Cells = field(default_factory=list)
    large_rounds: list[Round] = field(default_factory=list)
    large_cells: Cells = field(default_factory=list)
    missing_peers: dict[str, str] = field(default_factory=dict)

    @property
    def bars(self) -> list[Bar]:
        large = bars.of_large(self.large_rounds) if self.large_rounds else []
        return [*bars.of_demo(self.rounds, self.text_rounds, self.cores), *large]

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "cores": self.cores,
            "seconds_of_each": self.seconds,
            "bars": [bar.as_json() for bar in self.bars],
            "missing_peers": self.missing_peers,
            "shapes": {
                "rounds": [each.as_json() for each in self.rounds],
                "rounds_with_a_text_worker_for_each_core": [each.as_json() for each in self.text_rounds],
                "cells": [vars(cell) | found.as_json() for cell, found in self.cells],
            },
            "base-patch16-224": {
                "rounds": [each.as_json() for each in self.large_rounds],
                "cells": [vars(cell) | found.as_json() for cell, found in self.large_cells],
            },
        }


async def run_demo(results: Results, checkpoint: Path, rounds: int, say: Say) -> None:
    await asyncio.to_thread(inputs.draw_all)
    side = SiglipConfig.from_pretrained(checkpoint).vision_config.image_size
    cores = results.cores
    with (
        DecodeAlone(side, cores) as decode,
        ModelRate(checkpoint, cores, 1) as model,
        peers.running(checkpoint) as (others, results.missing_peers),
    ):
        await model.warm()
        async with serving(checkpoint) as ours:
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}: limits, service, other servers in turns")
                found = await one_round(ours, Limits(decode, model), others, results.seconds)
                results.rounds.append(found)
            results.cells = await run_cells(ours, plan.grid(), results.seconds, say)
        async with serving(checkpoint, "--text-workers", str(cores)) as ours:
            for number in range(rounds):
                say(f"a text worker for each core, round {number + 1} of {rounds}")
                found = await text_round(ours, Limits(decode, model), results.seconds)
                results.text_rounds.append(found)


async def run_large(results: Results, checkpoint: Path, seconds: float, rounds: int, say: Say) -> None:
    """Only one tower is ever busy here, so each worker may have all cores."""
    with ModelRate(checkpoint, 1, results.cores) as model:
        await model.warm()
        async with serving(checkpoint, "--threads", str(results.cores)) as ours:
            for number in range(rounds):
                say(f"base-patch16-224, round {number + 1} of {rounds}")
                results.large_rounds.append(await large_round(ours, model, seconds))
            results.large_cells = await run_cells(ours, plan.large_grid(), seconds, say)


async def run_cells(ours: Ours, cells: list[Cell], seconds: float, say: Say) -> Cells:
    found: Cells = []
    for cell in cells:
        highest = max((each.rate for other, each in found if other.series == cell.series), default=0.0)
        measured = await load.measure(_drive(ours, cell, cell.share * highest), seconds)
        found.append((cell, measured))
        p50, p99 = measured.latency_ms["p50"], measured.latency_ms["p99"]
        say(f"  {cell.series:<28} {cell.load:<28} {measured.rate:>8,.0f}/s   p50 {p50:.1f}  p99 {p99:.1f} ms")
    return found


def _drive(ours: Ours, cell: Cell, per_s: float) -> load.Drive:
    if cell.in_flight:
        return (ours.stream if cell.stream else ours.unary)(cell.kind, cell.in_flight)
    return (ours.stream_open if cell.stream else ours.unary_open)(cell.kind, per_s)
