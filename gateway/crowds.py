"""Counts what a message holds before it is parsed: millions of empty texts fit into one, and take far more
memory as objects than as bytes, and time in which nobody else is served.
"""

from gateway.errors import InvalidRequest, Violation
from siglip_settings import GatewaySettings

# Smaller messages cannot hold enough to matter.
COUNTED_BYTES = 64 * 1024
# Fewer do no harm, and what is wrong with them can be told better once they are parsed.
HARMLESS_FIELDS = 16_384
# Fields of a request beside its lists.
OTHER_FIELDS = 64


def most_fields(limits: GatewaySettings) -> int:
    """No request within its limits has more fields, entries of lists counted one by one."""
    items = limits.max_texts + limits.max_images + limits.max_labels + limits.max_templates
    return max(items, limits.stream_max_items, HARMLESS_FIELDS) + OTHER_FIELDS


def refuse_crowd(body: bytes, most: int) -> None:
    """Raises InvalidRequest for a message of more than `most` fields."""
    if len(body) > COUNTED_BYTES and _has_more(body, most):
        message = f"more than {most} texts, images, labels and other fields, which no request may hold"
        raise InvalidRequest([Violation("request", "LIMIT_EXCEEDED", message)])


def _has_more(body: bytes, most: int) -> bool:
    """Whatever cannot be read ends the count: what is wrong with it is the parser's to say."""
    position = 0
    try:
        for _ in range(most):
            if position >= len(body):
                return False
            tag, position = _varint(body, position)
            position = _after(body, tag & 7, position)
    except (IndexError, ValueError):
        return False
    return position < len(body)


def _after(body: bytes, wire_type: int, position: int) -> int:
    """Where the field ends: a varint, eight bytes, bytes with their length, or four bytes."""
    match wire_type:
        case 0:
            return _varint(body, position)[1]
        case 1:
            return position + 8
        case 2:
            length, start = _varint(body, position)
            return start + length
        case 5:
            return position + 4
    raise ValueError(wire_type)


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
