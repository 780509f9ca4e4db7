"""File names of any bytes as text that UTF-8 can hold, and back, without loss.

A backslash becomes two; a byte that is not UTF-8 becomes \\xNN, and half a surrogate pair, which JSON can
hold, \\uNNNN. Every other name is written as it is.
"""

import re

_WRITTEN = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
_STRAY = re.compile("[\ud800-\udfff]")
_SPECIAL = re.compile("[\\\\\ud800-\udfff]")
_BYTE = 0xDC00  # how Python keeps the byte 0


def escape(name: str) -> str:
    """`name` as Python has it, stray bytes as lone surrogates -> text without any."""
    return _SPECIAL.sub(lambda found: _written(found[0]), name)


def unescape(text: str) -> str:
    """The name that `escape` was given: open() finds the file by it."""
    return _WRITTEN.sub(lambda found: _read(found[1]), text)


def storable(text: str) -> str:
    """`text` as it is where UTF-8 can hold it, escaped where not."""
    return escape(text) if _STRAY.search(text) else text


def _written(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    return f"\\x{code - _BYTE:02x}" if 0x80 <= code - _BYTE <= 0xFF else f"\\u{code:04x}"


def _read(code: str) -> str:
    if code == "\\":
        return code
    return chr(int(code[1:], 16) + (_BYTE if code[0] == "x" else 0))
