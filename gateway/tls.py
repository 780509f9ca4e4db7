"""The gateway's certificate, and whose certificates it wants to see; files that change are read again."""

import logging
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from gateway.errors import StartError
from gateway.expiry import expires_s
from siglip_settings import GatewaySettings

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


def certificates_of(settings: GatewaySettings) -> "Certificates | None":
    """None for a server in clear. Raises StartError for files that are missing."""
    certificate, key, authority = (
        settings.tls_cert_file,
        settings.tls_key_file,
        settings.tls_client_ca_file,
    )
    if certificate is None and key is None and authority is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-cert-file" if certificate is None else "--tls-key-file"
        raise StartError(f"{missing} is missing: TLS needs a certificate and its key")
    return Certificates(Path(certificate), Path(key), Path(authority) if authority else None)


@dataclass
class Certificates:
    certificate: Path
    key: Path
    authority: Path | None
    """Signs the clients' certificates; None: clients need none."""

    expires_s: float = field(default=0.0, init=False)
    """When the one in use ends, since the epoch."""
    _stamp: Stamp = field(default=(), init=False)

    def credentials(self) -> grpc.ServerCredentials:
        """Raises StartError for files that cannot serve."""
        return grpc.dynamic_ssl_server_credentials(
            self.first(),
            self.changed,  # type: ignore[arg-type]  # None says: nothing new
            require_client_authentication=self.authority is not None,
        )

    def first(self) -> grpc.ServerCertificateConfiguration:
        """Raises StartError."""
        self._stamp = self._look()
        try:
            found, self.expires_s = self._read()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise StartError(f"cannot serve TLS: {self._reason(error)}") from error
        if self.expires_s <= time.time():
            log.warning("%s %s: clients refuse it; renew it", self.certificate, _ended(self.expires_s))
        return found

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC at every new connection. The old files stay where new ones do not fit; told once."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            new, ends_s = self._read()
            if ends_s <= time.time() < self.expires_s:
                raise ValueError(f"the new one {_ended(ends_s)}")
        except (OSError, ssl.SSLError, ValueError) as error:
            log.error("the new certificate is not taken, the old one stays: %s", self._reason(error))
            return None
        self.expires_s = ends_s
        log.info("the certificate in %s has changed and is taken", self.certificate)
        return new

    def _read(self) -> tuple[grpc.ServerCertificateConfiguration, float]:
        """The files, and when the certificate ends.

        gRPC takes anything and then fails at every handshake, so the files are tried here first.
        """
        probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        probe.load_cert_chain(self.certificate, self.key, password="")
        if self.authority:
            probe.load_verify_locations(self.authority)
        ends_s = expires_s(self.certificate)
        chain, key = self.certificate.read_bytes(), self.key.read_bytes()
        authority = self.authority.read_bytes() if self.authority else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authority), ends_s

    def _look(self) -> Stamp:
        return tuple(_stamp_of(path) for path in (self.certificate, self.key, self.authority) if path)

    def _reason(self, error: Exception) -> str:
        for path in (self.certificate, self.key, self.authority):
            if path and not path.is_file():
                return f"there is no file {path}"
        if "KEY_VALUES_MISMATCH" in str(error):
            return f"{self.key} is not the key of {self.certificate}"
        names = ", ".join(str(path) for path in (self.certificate, self.key, self.authority) if path)
        return f"{names}: {str(error) or type(error).__name__}"


def _ended(ends_s: float) -> str:
    return f"ended on {time.strftime('%Y-%m-%d', time.gmtime(ends_s))}"


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_mtime_ns, found.st_size
