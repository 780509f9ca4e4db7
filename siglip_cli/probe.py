"""Asks a gateway whether it serves."""

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 1.0


def serves(address: str) -> bool:
    """Whether the overall health is SERVING."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
            )
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def dialable(address: str) -> str:
    """Where to call a server that listens on `address`."""
    for every, here in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if address.startswith(every):
            return here + address.removeprefix(every)
    return address


def read_address(file: Path) -> str | None:
    """What the gateway wrote when it began to listen; None before."""
    return file.read_text() if file.exists() else None


def write_address(file: Path, address: str) -> None:
    """At once: a reader sees nothing or all of it."""
    whole = file.with_suffix(".new")
    whole.write_text(address)
    whole.replace(file)


def bound_address(listen: str, port: int) -> str:
    """`listen` with the port that was really opened; unchanged for a unix socket."""
    return f"{listen.rpartition(':')[0]}:{port}" if port else listen
