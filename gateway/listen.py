"""Opens the server's address, and says in one line why it cannot."""

import errno
import socket

import grpc

from gateway.errors import StartError

_REFUSED = (errno.EADDRINUSE, errno.EACCES)


def bind(server: grpc.aio.Server, address: str) -> int:
    """The port that `server` will accept calls on; 0 for `unix:` addresses. Raises StartError."""
    if not address.startswith("unix:"):
        _probe(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address}: no such address on this machine") from error
    return 0 if address.startswith("unix:") else port


def _probe(address: str) -> None:
    """gRPC reports a used port by several lines of its own on stderr, so it is tried here first."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise StartError(f"cannot listen on {address}: it must be host:port or unix:path")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    for family, kind, protocol, _, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: connections of an earlier server that linger must not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            if error.errno in _REFUSED:
                reason = f"{error.strerror}; stop what uses it or choose another --listen"
                raise StartError(f"cannot listen on {address}: {reason}") from error
