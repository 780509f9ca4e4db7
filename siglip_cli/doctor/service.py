"""The gateway: does it answer, and do its answers go all the way?"""

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from siglip_cli.calling import access
from siglip_cli.doctor.findings import Finding
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    pass

SLOW_S = 1.0


def check_service(settings: ClientSettings, fingerprint: str) -> Iterator[Finding]:
    """`fingerprint` of the local checkpoint; empty when it is not known."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from siglip_client import Client, SiglipError

    with Client(settings.address, timeout_s=settings.timeout_s, retries=0, **access(settings)) as client:
        try:
            model = client.get_model()
        except SiglipError as error:
            text = f"nobody serves at {settings.address}: {error}"
            yield Finding("problem", "gateway", text, "start it, or correct --address (SIGLIP_ADDRESS)")
            return
        yield Finding("ok", "gateway", f"{settings.address} serves {model.name!r}, {model.fingerprint}")
        if fingerprint and fingerprint != model.fingerprint:
            text = f"the gateway's files differ from the local ones ({fingerprint})"
            yield Finding("warning", "gateway", text, "compare --model here and there")
        if model.text_tower.served:
            yield _canary("text", lambda: client.embed_texts(["a photo"]))
        if model.vision_tower.served:
            yield _canary("vision", lambda: client.embed_images([grey_png()]))


def _canary(tower: str, call: Callable[[], Any]) -> Finding:
    from siglip_client import SiglipError

    start = time.monotonic()
    try:
        call()
    except SiglipError as error:
        remedy = "look at the workers: 'siglip top', and their logs"
        return Finding("problem", f"{tower} canary", f"no vector: {error}", remedy)
    took_s = time.monotonic() - start
    if took_s > SLOW_S:
        return Finding("warning", f"{tower} canary", f"one vector took {took_s:.1f} s", "see 'siglip top'")
    return Finding(
        "ok", f"{tower} canary", f"one vector through gateway, queue and worker in {took_s * 1000:.0f} ms"
    )


def grey_png(side: int = 8) -> bytes:
    """A small grey picture, made without an image library."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x80" * side for _ in range(side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
