"""The limits and the service in turns, round after round, so that a noisy machine is noisy for all of them.

What a bar compares was measured within the same minute; its ratio is the median of the rounds.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.service import load, rpc_alone
from benchmarks.service.book import NUMBERS, Measured
from benchmarks.service.decode_alone import DecodeAlone
from benchmarks.service.model_rate import ModelRate
from benchmarks.service.ours import Ours
from benchmarks.service.peers import Peer
from benchmarks.service.queue_alone import queue_alone
from benchmarks.service.unit import Unit, mean
from broker import ROWS_PER_ENTRY, Tower
from siglip_client import AsyncClient, Client

BUSY = 32
"""Calls in flight where a bar says nothing else."""


@dataclass
class Round:
    """By name: `decode`, `model image`, `rpc stream text`; `stream image`; `Infinity image`."""

    units: dict[str, Unit] = field(default_factory=dict)
    service: dict[str, Measured] = field(default_factory=dict)
    peers: dict[str, Measured] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            part: {name: each.as_json() for name, each in found.items()} for part, found in vars(self).items()
        }


@dataclass
class Limits:
    """What measures parts alone; waits while others are measured."""

    decode: DecodeAlone
    model: ModelRate


async def one_round(ours: Ours, limits: Limits, peers: list[Peer], seconds: float) -> Round:
    found = Round()
    found.units["decode"] = await limits.decode.measure(seconds)
    found.service["stream image"] = await load.measure(ours.stream("image"), seconds)
    found.units["model image"] = await limits.model.measure("vision", seconds)
    found.service["unary image"] = await load.measure(ours.unary("image", BUSY), seconds)
    found.service["classify"] = await load.measure(ours.unary("classify", BUSY), seconds)
    for peer in peers:
        for kind, call in peer.calls.items():
            with peer.turn():
                drive = partial(load.closed, call, BUSY)
                found.peers[f"{peer.name} {kind}"] = await load.measure(drive, seconds)
    found.units["model text"] = await limits.model.measure("text", seconds)
    found.service["stream text"] = await load.measure(ours.stream("text"), seconds)
    found.service["unary text"] = await load.measure(ours.unary("text", BUSY), seconds)
    await _rpc(ours, found, seconds)
    await _queue(ours, found, seconds)
    return found


async def text_round(ours: Ours, limits: Limits, seconds: float) -> Round:
    """Of a service for jobs of texts: it has a text worker for each core."""
    found = Round()
    found.units["model text"] = await limits.model.measure("text", seconds)
    found.service["stream text"] = await load.measure(ours.stream("text"), seconds)
    return found


async def large_round(ours: Ours, model: ModelRate, seconds: float) -> Round:
    """Where whole entries are answered seconds apart: by jobs of some entries, from end to end.

    The model alone has its time half before and half after the job: a machine that slows down between one and
    the other would tell nothing else.
    """
    found = Round()
    towers: dict[Tower, str] = {"vision": "image", "text": "text"}
    for tower, kind in towers.items():
        before = await model.measure(tower, seconds / 2)
        entries = math.ceil(before.rate * seconds / ROWS_PER_ENTRY[tower])
        await ours.call(kind)(next(NUMBERS))
        found.service[f"stream {kind}"] = await load.whole(ours.job(kind, entries * ROWS_PER_ENTRY[tower]))
        found.units[f"model {kind}"] = mean(before, await model.measure(tower, seconds / 2))
    return found


async def _rpc(ours: Ours, found: Round, seconds: float) -> None:
    with rpc_alone.echo_server(ours.address) as address:
        async with _clients(address) as echo:
            for kind in ("text", "image"):
                streamed = await load.measure(echo.stream(kind), seconds)
                called = await load.measure(echo.unary(kind, BUSY), seconds)
                found.units[f"rpc stream {kind}"] = rpc_alone.unit(streamed)
                found.units[f"rpc unary {kind}"] = rpc_alone.unit(called)


async def _queue(ours: Ours, found: Round, seconds: float) -> None:
    model = await ours.client.get_model()
    side = model.image_size
    shapes: dict[Tower, tuple[int, ...]] = {"text": (model.text_length,), "vision": (3, side, side)}
    async with queue_alone(shapes, model.embedding_dim) as queue:
        found.units["queue text"] = await queue.measure("text", seconds)
        found.units["queue image"] = await queue.measure("vision", seconds)


@asynccontextmanager
async def _clients(address: str) -> AsyncIterator[Ours]:
    async with AsyncClient(address) as client:
        with Client(address) as stream_client:
            yield Ours(address, client, stream_client)
