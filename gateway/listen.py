"""Opens the server's address, and says in one line why it cannot."""

import errno
import socket
from ipaddress import ip_address

import grpc

from gateway.errors import StartError

_UNIX = "unix:"
_REFUSED = (errno.EADDRINUSE, errno.EACCES)


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """The port that `server` will accept calls on; 0 for `unix:` addresses. Raises StartError."""
    on_socket = address.startswith(_UNIX)
    if on_socket:
        _refuse_live_socket(address)
    else:
        _refuse_used_port(address)
    try:
        port = (
            server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        )
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address}: it cannot be opened on this machine") from error
    return 0 if on_socket else port


def is_local(address: str) -> bool:
    """Whether only this machine can call there."""
    if address.startswith(_UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host or None, None, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        return False
    return all(ip_address(where[0]).is_loopback for *_, where in found)


def _refuse_live_socket(address: str) -> None:
    """gRPC would silently take a socket over from the server that is using it."""
    path = address.removeprefix(_UNIX)
    path = path[2:] if path.startswith("//") else path
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise StartError(f"cannot listen on {address}: a server is using it; stop it or choose another --listen")


def _refuse_used_port(address: str) -> None:
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
