"""When a certificate ends, read from its file; the standard library tells it only of a peer's."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def expires_s(file: Path) -> float:
    """Of the first certificate of a PEM file, since the epoch. Raises OSError, and ValueError."""
    found = _PEM.search(file.read_text())
    if found is None:
        raise ValueError(f"there is no certificate in {file}")
    try:
        return _expires_s(ssl.PEM_cert_to_DER_cert(found[0]))
    except (ValueError, IndexError, StopIteration) as error:
        raise ValueError(f"the certificate in {file} cannot be read") from error


def _expires_s(certificate: bytes) -> float:
    (_, whole), *_ = _parts(certificate)
    (_, body), *_ = _parts(whole)
    # version, serial number, signature's algorithm, issuer, validity, ...; the version may be absent.
    fields = [content for tag, content in _parts(body) if tag != _VERSION]
    _, (tag, end) = _parts(fields[3])
    time = datetime.strptime(end.decode(), "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ")
    return time.replace(tzinfo=UTC).timestamp()


def _parts(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        yield tag, der[at : at + length]
        at += length
