"""Entries put into a stream by hand, as some other gateway might."""

import math
import os
import time

from broker import Tower, wire
from broker.keys import Keys
from tests.support.queue_worker import FINGERPRINT
from tests.support.valkey import looking

OTHER_GATEWAY = "gw-0123456789abcdef"


def header(*, rows: int = 1, **changed: object) -> bytes:
    """A good header but for what is changed."""
    fields: dict[str, object] = {
        "job_id": os.urandom(16),
        "gateway_id": OTHER_GATEWAY,
        "fingerprint": FINGERPRINT,
        "dtype": "int32",
        "shape": (rows, 16),
        "deadline_ms": int(time.time() * 1000) + 60_000,
    }
    return wire.pack_header(**{**fields, **changed})  # type: ignore[arg-type]


def add(
    url: str,
    tag: str,
    *,
    rows: int = 1,
    fields: dict[bytes, bytes] | None = None,
    tower: Tower = "text",
    **changed: object,
) -> bytes:
    """The id of a new entry; `fields` replace header and payload."""
    shape = changed.get("shape", (rows, 16))
    payload = bytes(4 * math.prod(shape))  # type: ignore[arg-type]
    given = fields or {b"h": header(rows=rows, **changed), b"p": payload}
    with looking(url) as connection:
        return connection.xadd(Keys(tag).requests(tower, "interactive"), given)  # type: ignore[return-value,arg-type]
