"""Certificates: those that servers show here, and our own; do they hold, and for how long?"""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from broker import BrokerError
from broker.finding import seeds
from siglip_cli.doctor.findings import Finding
from siglip_settings import ClientSettings, RedisSettings

SOON_DAYS = 30
TIMEOUT_S = 5.0
RENEW = "renew it: gateways, workers and clients take the new file when they connect again"


def check_gateway_certificates(settings: ClientSettings) -> Iterator[Finding]:
    """Of the gateway at --address and of --cert-file; nothing for a service in clear."""
    if settings.tls == "on" or settings.ca_file or settings.cert_file:
        host, _, port = settings.address.rpartition(":")
        yield from _shown("gateway TLS", host.strip("[]"), port, settings.ca_file)
    yield from _own("client TLS", settings.cert_file)


def check_redis_certificates(settings: RedisSettings) -> Iterator[Finding]:
    """Of the server at --redis-url and of --redis-cert-file."""
    if not (settings.redis_url or "").startswith("rediss://"):
        return
    try:
        hosts = seeds(settings)
    except BrokerError:  # another check tells
        return
    for host in hosts:
        what = f"queue TLS {host}" if len(hosts) > 1 else "queue TLS"
        yield from _shown(what, host.host, host.port, settings.redis_ca_file)
    yield from _own("queue client TLS", settings.redis_cert_file)


def _shown(what: str, host: str, port: str | int, ca_file: str | None) -> Iterator[Finding]:
    """Nothing where nobody answers: another check tells."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(["h2"])  # gRPC's servers want it
        with (
            socket.create_connection((host, int(port)), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            ends = (tls.getpeercert() or {})["notAfter"]
    except ssl.SSLCertVerificationError as error:
        remedy = "renew it" if "expired" in error.verify_message else "is this the right address and CA file?"
        yield Finding("problem", what, f"{host}: {error.verify_message}", remedy)
    except (OSError, ValueError, KeyError):
        return
    else:
        yield _lasting(what, ssl.cert_time_to_seconds(str(ends)))


def _own(what: str, file: str | None) -> Iterator[Finding]:
    from gateway.expiry import expires_s

    if file is not None:
        try:
            yield _lasting(what, expires_s(Path(file)))
        except (OSError, ValueError) as error:
            yield Finding("problem", what, str(error), "give the PEM file of a certificate")


def _lasting(what: str, ends_s: float) -> Finding:
    day = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
    left_days = (ends_s - time.time()) / 86400
    if left_days <= 0:
        return Finding("problem", what, f"ended on {day}", RENEW)
    if left_days < SOON_DAYS:
        return Finding("warning", what, f"ends on {day}, in {left_days:.0f} days", RENEW)
    return Finding("ok", what, f"good until {day}")
