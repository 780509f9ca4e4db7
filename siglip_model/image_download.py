"""Fetches one picture over http or https, within a limit of bytes and of time."""

import time
from http.client import HTTPException, HTTPResponse
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from siglip_model.image_decoding import ImageError

SECONDS = 30.0
CHUNK_BYTES = 1 << 16
USER_AGENT = "siglip_model"  # some sites refuse urllib's own


def download(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """Redirects are followed, to http and https only. Raises OSError, or ImageError above `max_bytes`."""
    end = time.monotonic() + timeout_s
    request = Request(url, headers={"User-Agent": USER_AGENT, "Accept": "image/*"})
    try:
        with _opener().open(request, timeout=timeout_s) as response:
            return _body(response, url, max_bytes, end)
    except HTTPException as error:
        raise OSError(f"{url}: {type(error).__name__}") from error


def _opener() -> OpenerDirector:
    """Unlike urllib's usual one it knows neither files, nor ftp, nor data: a redirect cannot go there."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler,
        UnknownHandler,
        HTTPHandler,
        HTTPSHandler,
        HTTPDefaultErrorHandler,
        HTTPRedirectHandler,
        HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _body(response: HTTPResponse, url: str, max_bytes: int, end: float) -> bytes:
    """The socket's timeout is for one read; a sender of single bytes meets `end`."""
    data = bytearray()
    while chunk := response.read1(CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise ImageError("IMAGE_TOO_LARGE", f"{url} has more than {max_bytes} bytes, which is the limit")
        if time.monotonic() > end:
            raise TimeoutError(f"{url} was not complete in time, after {len(data)} bytes")
    return bytes(data)
