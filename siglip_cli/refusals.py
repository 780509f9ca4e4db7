"""What to do about a service that does not answer, by what gRPC says of it."""

from typing import TYPE_CHECKING

from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_client import SiglipError

_OURS = "perhaps it wants a certificate of ours, or another one (--cert-file, --key-file)"
# What OpenSSL says, as gRPC passes it on; a peer without TLS is no certificate's fault.
_WITH_TLS = {
    "Invalid certificate verification context": "if it speaks no TLS, give neither --ca-file nor --tls on",
    "certificate has expired": "its certificate has ended: renew it",
    "issuer certificate": "is this the right address and --ca-file?",
    "self signed certificate": "is this the right address and --ca-file?",
    "self-signed certificate": "is this the right address and --ca-file?",
    "certificate signature failure": "is this the right address and --ca-file?",
    "not in peer certificate": "its certificate is for another name: is this the right address?",
    "Socket closed": _OURS,
    "reset by peer": _OURS,
}
_IN_CLEAR = {"Socket closed": "if it speaks TLS, give --ca-file or --tls on"}


def tls_remedy(error: "SiglipError", settings: ClientSettings) -> str:
    """What is to be changed of TLS, here or there; empty where that is not the matter."""
    uses_tls = settings.tls == "on" or settings.ca_file or settings.cert_file
    signs = _WITH_TLS if uses_tls else _IN_CLEAR
    return next((remedy for sign, remedy in signs.items() if sign in str(error)), "")


def diagnosis(error: "SiglipError", settings: ClientSettings) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    from siglip_client import DeadlineExceeded, Unauthenticated, Unavailable

    where = settings.address
    if isinstance(error, Unauthenticated):
        return f"{where} does not know us: {error}", "give or renew --token (SIGLIP_TOKEN)"
    if isinstance(error, DeadlineExceeded):
        return f"no answer from {where}: {error}", "look at its load and logs, or allow more with --timeout-s"
    if not isinstance(error, Unavailable) or error.reason:
        return f"{where} answers with an error: {error}", "is it a gateway's --address? then see its logs"
    if remedy := tls_remedy(error, settings):
        return f"{where} and this side find no connection: {error}", remedy
    return f"nobody serves at {where}: {error}", "start it, or correct --address (SIGLIP_ADDRESS)"
