"""Connections to Redis and what we ask of the server. The only place that builds redis-py clients."""

import re
import ssl
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.connection
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
)
from redis.retry import Retry

from broker.asked_places import WrongServer
from broker.errors import BrokerUnavailable, UnsuitableServer, UnusableSettings
from broker.jobs import RedisUrls
from broker.placed import (
    AsyncPlacedConnection,
    AsyncPlacedSSLConnection,
    PlacedConnection,
    PlacedSSLConnection,
)
from broker.places import Place
from broker.rereading import RereadingConnection

# One blocking read; the socket waits a little longer, never for ever.
BLOCK_MS = 500
SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 5.0
REDIS_FLOOR = (7, 0)
VALKEY_FLOOR = (7, 2)

# Redis is away, or not ready: worth waiting. Subclasses of ConnectionError that no waiting cures come first.
HOPELESS = (AuthenticationError, AuthorizationError, NoPermissionError, WrongServer)
# What redis-py raises for a URL that it cannot take.
UNUSABLE = (ValueError, TypeError, redis.RedisError)
IN_CLUSTER = "this is a node of a cluster: set --redis-cluster on"
AWAY = (redis.ConnectionError, redis.TimeoutError, BusyLoadingError, MasterDownError, ReadOnlyError, OSError)
_NO_OR_A_NUMBER = re.compile(r"/?|/\d+/?", re.ASCII)
_IN_PIPELINE = re.compile(r"^Command # \d+ \((\w+).*\) of pipeline caused error: ", re.DOTALL)


def sync_client(settings: RedisUrls, place: Place | None = None) -> redis.Redis:
    """One connection for one thread; every retry is ours. `place` where the URL alone does not say whose."""
    classes = (PlacedConnection, PlacedSSLConnection)
    more = {"redis_connect_func": _take_tickets} if _speaks_tls(settings) else {}
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_pool(_pool(redis.ConnectionPool, settings, place, classes, retry=retry, **more))


def async_client(settings: RedisUrls, place: Place | None = None) -> "redis.asyncio.Redis":
    """One connection for one task; every retry is ours. `place` where the URL alone does not say whose."""
    classes = (AsyncPlacedConnection, AsyncPlacedSSLConnection)
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    pool = _pool(redis.asyncio.ConnectionPool, settings, place, classes, retry=retry)
    return redis.asyncio.Redis.from_pool(pool)


def _take_tickets(connection: Any) -> None:
    """The server's session tickets follow the handshake of TLS 1.3; redis-py, which finds them unread, takes
    them for a reply that somebody left and gives the connection up. Any exchange reads them away.
    """
    connection.on_connect()
    connection.send_command("TIME")
    connection.read_response()


def _pool(
    kind: type[Any], settings: RedisUrls, place: Place | None, classes: tuple[type, type], **more: object
) -> Any:
    options = {**connection_options(settings), **more, "max_connections": 1}
    try:
        url, *others = urls(settings)
        if place is None and others:
            raise ValueError("several hosts are for --redis-cluster on, or for --redis-sentinel-name")
        if place is not None:
            options |= {"place": place, "connection_class": classes[url.startswith("rediss://")]}
            options |= parse_node(url)
        pool = kind(**options) if place else kind.from_url(url, **options)
        _try_options(pool)
    except UNUSABLE as error:
        raise unusable(settings, error) from None
    if pool.connection_class is redis.asyncio.SSLConnection:
        pool.connection_class = RereadingConnection
    return pool


def parse_node(url: str) -> dict[str, Any]:
    """What a URL of one host says, as arguments of a connection. Raises one of UNUSABLE."""
    found: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    found.pop("connection_class", None)
    return found


def urls(settings: RedisUrls) -> list[str]:
    """The URL, or one for each of its hosts."""
    url = _url(settings)
    scheme, mark, rest = url.partition("://")
    login, at, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    if settings.redis_password and (":" in login or "password=" in place.partition("?")[2]):
        raise ValueError(
            "it has a password, and --redis-password (SIGLIP_REDIS_PASSWORD) is set: give one of them"
        )
    if scheme == "unix" or any(sign in login for sign in "/?#"):
        return [url]
    if scheme in ("redis", "rediss") and not _NO_OR_A_NUMBER.fullmatch(re.sub("[?#].*|^[^/?#]*", "", place)):
        raise ValueError("what follows host and port must be the number of a database")
    hosts = re.split("[/?#]", place)[0]
    tail = place.removeprefix(hosts)
    return [f"{scheme}{mark}{login}{at}{host.strip()}{tail}" for host in hosts.split(",")]


def _try_options(pool: Any) -> None:
    """redis-py looks at a URL's options when it first connects, too late to tell them from an outage."""
    pool.connection_class(**pool.connection_kwargs)


def unusable(settings: RedisUrls, error: Exception) -> UnusableSettings:
    # Of a ValueError what is quoted is left out: it can be a piece of the password, taken for a port.
    text = re.sub("['\"].*['\"]", "(not shown)", str(error)) if isinstance(error, ValueError) else str(error)
    return UnusableSettings(f"cannot use the Redis URL {shown_url(settings)}: {' '.join(text.split())}")


def _url(settings: RedisUrls) -> str:
    if not settings.redis_url:
        raise UnusableSettings("no Redis URL given: set SIGLIP_REDIS_URL or --redis-url")
    return settings.redis_url.strip()  # of a Secret that was made from a file the last line's end


def connection_options(settings: RedisUrls) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": 0,
        # CLIENT SETINFO is a command more that an ACL would have to allow.
        "driver_info": None,
    }
    if settings.redis_password:
        options["password"] = settings.redis_password
    if _speaks_tls(settings):
        options["ssl_ca_certs"] = settings.redis_ca_file
        options["ssl_certfile"] = settings.redis_cert_file
        options["ssl_keyfile"] = settings.redis_key_file
        # Without one OpenSSL would ask for the password of an encrypted key at the terminal.
        options["ssl_password"] = ""
    return options


def check_files(settings: RedisUrls) -> None:
    """UnusableSettings for TLS files that cannot be used: redis-py does not say which is wrong.

    For the start alone. Later they may be renewed just when they are read, and that passes.
    """
    if not _speaks_tls(settings):
        return
    authority, certificate, key = settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file
    given = [file for file in (authority, certificate, key) if file is not None]
    for file in given:
        if not Path(file).is_file():
            raise UnusableSettings(f"cannot use Redis over TLS: there is no file {file}")
    context = ssl.create_default_context()
    try:
        if authority:
            context.load_verify_locations(authority)
        if certificate:
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise UnusableSettings(f"cannot use Redis over TLS with {', '.join(given)}: {error}") from None


def shown_url(settings: RedisUrls) -> str:
    """The URL without password and options; nothing of it where these cannot be told from the rest."""
    scheme, found, rest = (settings.redis_url or "").partition("://")
    login, at, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    name = login.partition(":")[0]
    # A login with one of these ends there for redis-py: its password was not written as %2F, %3F or %23.
    if not found or not scheme.isalpha() or any(mark in login for mark in "/?#"):
        return "(unreadable)"
    return f"{scheme}://{name}{at}{re.split('[?#]', place)[0]}"


def unavailable(settings: RedisUrls, error: BaseException) -> BrokerUnavailable:
    """One line that names the server and what went wrong."""
    hint = _tls_hint(str(error)) if _speaks_tls(settings) else ""
    return BrokerUnavailable(f"Redis at {shown_url(settings)}: {reason_of(error)}{hint}")


def _tls_hint(text: str) -> str:
    if "reset by peer" in text:  # the alert that says why is often lost with the connection
        return "; perhaps it wants a certificate of ours, or another one (--redis-cert-file)"
    # A server in clear takes the greeting of TLS for a command that has not ended, and waits for the rest.
    return "; if it speaks no TLS: redis://" if "Timeout connecting" in text else ""


def _speaks_tls(settings: RedisUrls) -> bool:
    return _url(settings).startswith("rediss://")


def reason_of(error: BaseException) -> str:
    """One line. Of a command in a pipeline redis-py quotes the arguments too, content of users among them."""
    if isinstance(error, MovedError):
        return IN_CLUSTER
    text = re.sub(_IN_PIPELINE, r"\1: ", str(error))
    return " ".join(text.split()) or type(error).__name__


def check_server(info: dict[str, Any], *, clustered: bool = False) -> None:
    """UnsuitableServer when the reply of INFO says that work could be lost. Unknown fields pass."""
    mode = info.get("redis_mode") or info.get("server_mode")
    if mode == "sentinel":
        raise UnsuitableServer("this is a Sentinel: name the primary that it watches (--redis-sentinel-name)")
    if mode == "cluster" and not clustered:
        raise UnsuitableServer(IN_CLUSTER)
    is_valkey = "valkey_version" in info
    version = str(info.get("valkey_version") or info.get("redis_version") or "")
    floor, name = (VALKEY_FLOOR, "Valkey") if is_valkey else (REDIS_FLOOR, "Redis")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < floor:
        wanted = "Redis >= 7.0 or Valkey >= 7.2"
        raise UnsuitableServer(f"{name} {version} is too old: {wanted} is needed")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise UnsuitableServer(
            f"maxmemory-policy is {policy}: queued work could be evicted; set it to noeviction"
        )
