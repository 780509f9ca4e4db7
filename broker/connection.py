"""Connections to Redis and what we ask of the server. The only place that builds redis-py clients."""

import re
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
)
from redis.retry import Retry

from broker.errors import BrokerUnavailable, UnsuitableServer
from broker.jobs import RedisUrls

# One blocking read; the socket waits a little longer, never for ever.
BLOCK_MS = 500
SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 5.0
REDIS_FLOOR = (7, 0)
VALKEY_FLOOR = (7, 2)

# Redis is away, or not ready: worth waiting. Subclasses of ConnectionError that no waiting cures come first.
HOPELESS = (AuthenticationError, AuthorizationError, NoPermissionError)
# What redis-py raises for a URL that it cannot take.
UNUSABLE = (ValueError, TypeError, redis.RedisError)
AWAY = (redis.ConnectionError, redis.TimeoutError, BusyLoadingError, MasterDownError, ReadOnlyError, OSError)


def sync_client(settings: RedisUrls) -> redis.Redis:
    """One connection for one thread; every retry is ours."""
    options = _options(settings)
    if _url(settings).startswith("rediss://"):
        options["redis_connect_func"] = _take_tickets
    try:
        client = redis.Redis.from_url(
            _url(settings), retry=Retry(NoBackoff(), 0), max_connections=1, **options
        )
        _try_options(client.connection_pool)
    except UNUSABLE as error:
        raise _unusable(settings, error) from None
    return client


def _take_tickets(connection: Any) -> None:
    """The server's session tickets follow the handshake of TLS 1.3; redis-py, which finds them unread, takes
    them for a reply that somebody left and gives the connection up. Any exchange reads them away.
    """
    connection.on_connect()
    connection.send_command("PING")
    connection.read_response()


def async_client(settings: RedisUrls) -> "redis.asyncio.Redis":
    """One connection for one task; every retry is ours."""
    options, retry = _options(settings), redis.asyncio.retry.Retry(NoBackoff(), 0)
    try:
        client = redis.asyncio.Redis.from_url(_url(settings), retry=retry, max_connections=1, **options)
        _try_options(client.connection_pool)
    except UNUSABLE as error:
        raise _unusable(settings, error) from None
    return client


def _try_options(pool: Any) -> None:
    """redis-py looks at a URL's options when it first connects, too late to tell them from an outage."""
    pool.connection_class(**pool.connection_kwargs)


def _unusable(settings: RedisUrls, error: Exception) -> BrokerUnavailable:
    # Of a ValueError what is quoted is left out: it can be a piece of the password, taken for a port.
    text = re.sub("['\"].*['\"]", "(not shown)", str(error)) if isinstance(error, ValueError) else str(error)
    return BrokerUnavailable(f"cannot use the Redis URL {shown_url(settings)}: {' '.join(text.split())}")


def _url(settings: RedisUrls) -> str:
    if not settings.redis_url:
        raise BrokerUnavailable("no Redis URL given: set SIGLIP_REDIS_URL or --redis-url")
    return settings.redis_url


def _options(settings: RedisUrls) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": 0,
        # CLIENT SETINFO is a command more that an ACL would have to allow.
        "driver_info": None,
    }
    if _url(settings).startswith("rediss://"):
        _require_files(settings)
        options["ssl_ca_certs"] = settings.redis_ca_file
        options["ssl_certfile"] = settings.redis_cert_file
        options["ssl_keyfile"] = settings.redis_key_file
    return options


def _require_files(settings: RedisUrls) -> None:
    for file in (settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file):
        if file is not None and not Path(file).is_file():
            raise BrokerUnavailable(f"cannot use Redis over TLS: there is no file {file}")


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
    text = " ".join(str(error).split()) or type(error).__name__
    return BrokerUnavailable(f"Redis at {shown_url(settings)}: {text}")


def check_server(info: dict[str, Any]) -> None:
    """UnsuitableServer when the reply of INFO says that work could be lost. Unknown fields pass."""
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
