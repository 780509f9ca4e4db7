"""TLS in front of a server that has none: what arrives encrypted goes on to a unix socket."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.line import line_to


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return certificate, key


@contextlib.contextmanager
def tls_in_front_of(socket_path: str, certificate: Path, key: Path) -> Iterator[int]:
    """The port on the loopback where the server speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with line_to(socket_path, context) as port:
        yield port
