"""gRPC-Web as a browser speaks it: HTTP/1.1, and the end of the call within the body."""

import base64
import http.client
import re
from dataclasses import dataclass
from typing import Literal

from google.protobuf.message import Message

Form = Literal["application/grpc-web+proto", "application/grpc-web-text"]
FORMS: tuple[Form, ...] = ("application/grpc-web+proto", "application/grpc-web-text")
_PREFIX_BYTES, _TRAILERS = 5, 0x80


@dataclass
class Answer:
    headers: dict[str, str]
    messages: list[bytes]
    trailers: dict[str, str]
    """Where the call ended without a message they are the headers."""


def call(address: str, method: str, request: Message, form: Form, headers: dict[str, str]) -> Answer:
    """One unary call."""
    body = request.SerializeToString()
    body = b"\0" + len(body).to_bytes(4, "big") + body
    sent = {"content-type": form, "accept": form, "x-grpc-web": "1", **headers}
    text = form.endswith("text")
    status, got, data = post(address, method, base64.b64encode(body) if text else body, sent)
    assert status == 200 and got["content-type"].startswith(form), (status, got)
    messages, trailers = _frames(_from_base64(data) if text else data)
    return Answer(got, messages, trailers or got)


def post(
    address: str, path: str, body: bytes | str, headers: dict[str, str], verb: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(verb, path, body, headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def _from_base64(text: bytes) -> bytes:
    """Several pieces, each padded, one after the other."""
    return b"".join(base64.b64decode(piece) for piece in re.findall(rb"[^=]+=*", text))


def _frames(data: bytes) -> tuple[list[bytes], dict[str, str]]:
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while data:
        end = _PREFIX_BYTES + int.from_bytes(data[1:_PREFIX_BYTES], "big")
        kind, content, data = data[0], data[_PREFIX_BYTES:end], data[end:]
        if kind & _TRAILERS:
            pairs = (line.split(":", 1) for line in content.decode().split("\r\n") if line)
            trailers = {name.lower(): value.strip() for name, value in pairs}
        else:
            messages.append(content)
    return messages, trailers
