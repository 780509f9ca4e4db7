"""How channels are set up: retries, limits, reconnection; the same for both clients."""

from __future__ import annotations

import json
import re
import ssl
import time
import uuid
from dataclasses import dataclass
from ipaddress import ip_address
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import grpc
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2
from siglip.v1.embedding_pb2_grpc import EmbeddingServiceStub
from siglip.v1.model_pb2_grpc import ModelServiceStub
from siglip.v1.zero_shot_pb2_grpc import ZeroShotServiceStub

from siglip_client.errors import DeadlineExceeded
from siglip_client.status import REQUEST_ID_KEY

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MESSAGE_BYTES = 32 * 1024 * 1024

# gRPC's own bound on attempts of one call; more in a service config is ignored.
MAX_RETRIES = 4

# gRPC's servers refuse calls above a number for each connection, and count those that have just ended,
# so some of 10,000 calls started together would fail. What is above this number waits for its turn.
CALLS_OF_A_CONNECTION = 256

# gRPC takes a time that ends centuries ahead for one that is over.
LONGEST_S = 365 * 24 * 3600.0

CLOSED = "the client is closed"
NO_PLACE = "the client had too many other calls on the way: time is over before the call was sent"

_UNARY = tuple(
    method.name
    for file in (embedding_pb2, zero_shot_pb2, model_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming
)

Option = tuple[str, str | int]
Priority = Literal["interactive", "batch"]


def options(address: str, *, retries: int, max_message_bytes: int, retry_buffer_bytes: int) -> list[Option]:
    """Channel options. Raises ValueError for retries that gRPC would not do."""
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries must be between 0 and {MAX_RETRIES}, not {retries}")
    return [
        ("grpc.service_config", _service_config(retries)),
        ("grpc.enable_retries", int(retries > 0)),
        # Requests above gRPC's default of 256 KiB, which most images are, would
        # silently not be retried.
        ("grpc.per_rpc_retry_buffer_size", retry_buffer_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the service says what it takes
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A gateway that comes back is found within seconds; the default backs off
        # to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        # Channels to one address share a connection unless told not to.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy of the environment has no way to this machine, and would see a token in clear.
        ("grpc.enable_http_proxy", int(not is_local(address))),
    ]


def seconds(timeout_s: float) -> float:
    """The time as gRPC can wait it. Raises ValueError for what is not a number."""
    if not isinstance(timeout_s, Real) or timeout_s != timeout_s:
        raise ValueError(f"timeout_s must be a number of seconds, not {timeout_s!r}")
    return float(min(timeout_s, LONGEST_S))


def time_left_s(deadline: float, request_id: str) -> float:
    """Until then, by `time.monotonic()`.

    Raises DeadlineExceeded if there is none: gRPC would send the call, and a quick service might even answer.
    """
    if (left_s := deadline - time.monotonic()) <= 0:
        raise DeadlineExceeded("no time is left for the call", request_id=request_id)
    return left_s


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a client shows who it is, and knows whom it calls. Paths of PEM files."""

    tls: bool = False
    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None
    token: str | None = None

    def credentials(self, address: str) -> grpc.ChannelCredentials | None:
        """None: in clear. Raises OSError for a file, ValueError for what cannot be used as it is."""
        if not (self.tls or self.ca_file or self.cert_file):
            if self.token and not is_local(address):
                raise ValueError(f"the token would travel in clear to {address}: set tls or ca_file")
            return None
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give both cert_file and key_file, or neither")
        authority = _read(self.ca_file)
        if authority is not None and not _has_certificate(authority):
            raise ValueError(f"there is no certificate in {self.ca_file}: give the PEM file of an authority")
        return grpc.ssl_channel_credentials(authority, _read(self.key_file), _read(self.cert_file))


def _read(file: str | Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def _has_certificate(pem: bytes) -> bool:
    """gRPC takes anything, and then every call waits for its whole time."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def is_local(address: str) -> bool:
    """Whether all of it is this machine: host:port, dns:, unix:, or a list after ipv4: or ipv6:."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    places = re.sub("^(dns:(///)?|ipv[46]:)", "", address)
    return all(_is_loopback(place.rpartition(":")[0].strip("[]")) for place in places.split(","))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name: whose, others decide
        return False


def methods(channel: Any) -> dict[str, Any]:
    """Every call of the public services by its name."""
    stubs = (EmbeddingServiceStub(channel), ZeroShotServiceStub(channel), ModelServiceStub(channel))
    return {name: call for stub in stubs for name, call in vars(stub).items()}


def check_method(name: str) -> None:
    """Raises ValueError for what is no call with one request and one reply."""
    if name not in _UNARY:
        raise ValueError(f"method must be one of {', '.join(_UNARY)}, not {name!r}")


def new_request_id() -> str:
    return uuid.uuid4().hex[:16]


def metadata(request_id: str, token: str | None, priority: Priority) -> tuple[tuple[str, str], ...]:
    shown = (("authorization", f"Bearer {token}"),) if token else ()
    urgency = (("siglip-priority", priority),) if priority != "interactive" else ()
    return ((REQUEST_ID_KEY, request_id), *shown, *urgency)


def _service_config(retries: int) -> str:
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries:
        config["methodConfig"] = [{"name": [{}], "retryPolicy": _retry_policy(retries)}]
    return json.dumps(config)


def _retry_policy(retries: int) -> dict[str, Any]:
    """RESOURCE_EXHAUSTED is not listed on purpose: see status.retry_wait_s."""
    return {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.2s",
        "maxBackoff": "3s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
