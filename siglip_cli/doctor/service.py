"""The gateway: does it answer, and do its answers go all the way?"""

import secrets
import struct
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from siglip_cli.calling import open_client
from siglip_cli.doctor.findings import Finding
from siglip_cli.errors import CommandError
from siglip_cli.refusals import diagnosis
from siglip_settings import ClientSettings, Tower

if TYPE_CHECKING:
    from siglip_client import Client, ModelDescription

SLOW_S = 1.0
BOTH: tuple[Tower, ...] = ("text", "vision")

Findings = Generator[Finding, None, tuple[Tower, ...]]
"""Returns the towers that this service should have workers for; both where it cannot be asked."""


def check_service(settings: ClientSettings, local: Mapping[str, str]) -> Findings:
    """`local`: fingerprints of the local checkpoints by name; empty where one cannot be read."""
    try:
        opened = open_client(settings, retries=0)
    except CommandError as error:
        yield Finding("problem", "gateway", str(error), "correct how it is to be called")
        return BOTH
    with opened as client:
        return (yield from _check_gateway(client, settings, local))


def _check_gateway(client: "Client", settings: ClientSettings, local: Mapping[str, str]) -> Findings:
    """Each of its models; only the one of --served-model where that is given."""
    from siglip_client import SiglipError

    towers, found, served = BOTH, dict[str, str](), set[str]()
    names = [client.model]
    for name in names:  # grows as the first answer names the others
        client.model = name
        try:
            model = client.get_model()
        except SiglipError as error:
            yield Finding("problem", "gateway", *diagnosis(error, settings))
            return BOTH
        if not name:
            names += [other for other in model.served_models if other != model.name]
        found[model.name] = model.fingerprint
        served |= {*model.served_models}
        yield Finding("ok", "gateway", f"{settings.address} serves {model.name!r}, {model.fingerprint}")
        towers = yield from _check_towers(client, model)
    yield from _compare(local, found, all_asked=served <= found.keys())
    return towers


def _compare(local: Mapping[str, str], found: Mapping[str, str], all_asked: bool) -> Iterator[Finding]:
    """Fingerprints by name, here and at the gateway; of models that were not asked for nothing is known."""
    for name, fingerprint in local.items():
        known = name in found or all_asked
        same = found[name] == fingerprint if name in found else fingerprint in found.values()
        if fingerprint and known and not same:
            text = f"the gateway's files differ from the local ones of {name!r} ({fingerprint})"
            yield Finding("warning", "gateway", text, "compare --model here and there")


def _check_towers(client: "Client", model: "ModelDescription") -> Findings:
    # New ones each time: what the gateway remembers would say nothing about workers.
    calls: dict[Tower, Callable[[], Any]] = {
        "text": lambda: client.embed_texts([f"{secrets.token_hex(8)} in a photo"]),
        "vision": lambda: client.embed_images([noise_png()]),
    }
    served = {"text": model.text_tower.served, "vision": model.vision_tower.served}
    towers = tuple(tower for tower in BOTH if served[tower])
    for tower in towers:
        yield _canary(tower, model, calls[tower])
    return towers


def _canary(tower: Tower, model: "ModelDescription", call: Callable[[], Any]) -> Finding:
    from siglip_client import SiglipError

    what = f"{tower} canary" + (f" of {model.name}" if len(model.served_models) > 1 else "")
    start = time.monotonic()
    try:
        call()
    except SiglipError as error:
        remedy = "look at the workers: 'siglip top', and their logs"
        return Finding("problem", what, f"no vector: {error}", remedy)
    took_s = time.monotonic() - start
    if took_s > SLOW_S:
        return Finding("warning", what, f"one vector took {took_s:.1f} s", "see 'siglip top'")
    return Finding("ok", what, f"one vector through gateway, queue and worker in {took_s * 1000:.0f} ms")


def noise_png(side: int = 8) -> bytes:
    """A small grey picture of noise, made without an image library."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + secrets.token_bytes(side) for _ in range(side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
