"""Who calls: the name of a token, of a client's certificate, or the peer's address."""

import hashlib
import hmac
import logging
import re
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from gateway.errors import StartError, Unauthenticated

log = logging.getLogger(__name__)

KEY = "authorization"
_SCHEME = "bearer "
_LOOK_EVERY_S = 1.0
_MAX_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{_MAX_NAME}}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """`max_in_flight_rows` None: only the gateway's own limits."""

    name: str
    max_in_flight_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    digest: str
    caller: Caller


class Access:
    """The tokens of a file, which is read again when it changes. Without a file everybody may call."""

    def __init__(self, token_file: str | None) -> None:
        """Raises StartError for a file that cannot be used."""
        self._file = Path(token_file) if token_file else None
        self._tokens: list[Token] = []
        self._stamp: tuple[int, int] | None = None
        self._looked_s = time.monotonic()
        if self._file:
            try:
                self._stamp = _stamp_of(self._file)
                self._tokens = read_tokens(self._file)
            except (OSError, ValueError) as error:
                raise StartError(f"--token-file {self._file}: {_reason(error)}") from error

    @property
    def needs_token(self) -> bool:
        return self._file is not None

    def caller(self, authorization: str | bytes | None, peer: str, certified: str | None) -> Caller:
        """`certified` is the name in the client's verified certificate. Raises Unauthenticated."""
        if self._file is None:
            return Caller(_printable(certified) if certified else peer_name(peer))
        self._look()
        if not isinstance(authorization, str) or not authorization.lower().startswith(_SCHEME):
            raise Unauthenticated("TOKEN_MISSING", f"send the metadata {KEY}: Bearer TOKEN")
        digest = hashlib.sha256(authorization[len(_SCHEME) :].strip().encode()).hexdigest()
        # Every entry is compared: how long it takes does not tell which came close.
        matches = [token for token in self._tokens if hmac.compare_digest(token.digest, digest)]
        if not matches:
            raise Unauthenticated("TOKEN_UNKNOWN", "this token is not known here")
        return matches[0].caller

    def _look(self) -> None:
        """A file that cannot be read leaves the old tokens in force."""
        now_s = time.monotonic()
        if self._file is None or now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            stamp = _stamp_of(self._file)
            if stamp == self._stamp:
                return
            self._tokens, self._stamp = read_tokens(self._file), stamp
        except (OSError, ValueError) as error:
            if self._stamp is not None:
                log.error("--token-file %s is not taken, the old tokens stay: %s", self._file, _reason(error))
            self._stamp = None
        else:
            log.info("%d tokens are in force", len(self._tokens))


def read_tokens(file: Path) -> list[Token]:
    """Raises OSError, and ValueError naming what is wrong."""
    with file.open("rb") as stream:
        tables = tomllib.load(stream)
    if unknown := tables.keys() - {"tokens"}:
        raise ValueError(f"unknown table {sorted(unknown)[0]!r}; there is only [tokens.NAME]")
    tokens = tables.get("tokens", {})
    if not isinstance(tokens, dict):
        raise ValueError("tokens must be tables: [tokens.NAME]")
    if not tokens:
        raise ValueError("there is no token in it; 'siglip token new NAME' makes entries")
    found = [_token(name, values) for name, values in tokens.items()]
    _refuse_twins(found)
    return found


def _refuse_twins(tokens: list[Token]) -> None:
    """Raises ValueError: of two names for one token only the first would ever be seen."""
    names: dict[str, str] = {}
    for token in tokens:
        name = token.caller.name
        if (other := names.setdefault(token.digest, name)) != name:
            raise ValueError(f"[tokens.{other}] and [tokens.{name}] have the same sha256: renew one")


def _token(name: str, values: Any) -> Token:
    where = f"[tokens.{name}]"
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: a name is 1 to 64 letters, digits or . _ -")
    if not isinstance(values, dict):
        raise ValueError(f"{name} is not a table: {where} must stand above its sha256")
    if unknown := values.keys() - {"sha256", "max_in_flight_rows"}:
        raise ValueError(f"{where} may hold sha256 and max_in_flight_rows, not {sorted(unknown)[0]!r}")
    digest, rows = values.get("sha256"), values.get("max_in_flight_rows")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits in lower case")
    if rows is not None and (type(rows) is not int or rows < 1):
        raise ValueError(f"{where}: max_in_flight_rows is {rows!r} and must be a whole number above 0")
    return Token(digest, Caller(name, rows))


def _printable(name: str) -> str:
    """An authority may sign any text; in logs it is one word, as a token's name is."""
    return quote(name, safe="")[:_MAX_NAME]


def peer_name(peer: str) -> str:
    """gRPC's name of a peer, without its port: each connection has another one."""
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind


def _stamp_of(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_ino


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
