"""Connections to Redis and what we ask of the server. The only place that builds redis-py clients."""

import re
import ssl
from collections.abc import Mapping
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
_IN_PIPELINE = re.compile(r"^Command # \d+ \((\w+).*\) of pipeline caused error: ", re.DOTALL)


def sync_client(settings: RedisUrls) -> redis.Redis:
    """One connection for one thread; every retry is ours."""
    options = _options(settings)
    try:
        client = redis.Redis.from_url(
            _url(settings), retry=Retry(NoBackoff(), 0), max_connections=1, **options
        )
        _try_options(client.connection_pool)
    except UNUSABLE as error:
        raise _unusable(settings, error) from None
    return client


def async_client(settings: RedisUrls) -> "redis.asyncio.Redis":
    """One connection for one task; every retry is ours."""
    options, retry = _options(settings), redis.asyncio.retry.Retry(NoBackoff(), 0)
    try:
        client = redis.asyncio.Redis.from_url(_url(settings), retry=retry, max_connections=1, **options)
        _try_options(client.connection_pool)
    except UNUSABLE as error:
        raise _unusable(settings, error) from None
    if client.connection_pool.connection_class is redis.asyncio.SSLConnection:
        client.connection_pool.connection_class = _RereadingConnection
    return client


class _RereadingConnection(redis.asyncio.SSLConnection):
    """Takes renewed certificates when it connects again, as redis-py's synchronous one does."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        self.ssl_context.context = None
        return super()._connection_arguments()


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
        _try_files(settings)
        options["ssl_ca_certs"] = settings.redis_ca_file
        options["ssl_certfile"] = settings.redis_cert_file
        options["ssl_keyfile"] = settings.redis_key_file
        # Without one OpenSSL would ask for the password of an encrypted key at the terminal.
        options["ssl_password"] = ""
    return options


def _try_files(settings: RedisUrls) -> None:
    """redis-py reads them when it first connects, and does not say which is wrong."""
    authority, certificate, key = settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file
    given = [file for file in (authority, certificate, key) if file is not None]
    for file in given:
        if not Path(file).is_file():
            raise BrokerUnavailable(f"cannot use Redis over TLS: there is no file {file}")
    context = ssl.create_default_context()
    try:
        if authority:
            context.load_verify_locations(authority)
        if certificate:
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise BrokerUnavailable(f"cannot use Redis over TLS with {', '.join(given)}: {error}") from None


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
    return BrokerUnavailable(f"Redis at {shown_url(settings)}: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """One line. Of a command in a pipeline redis-py quotes the arguments too, content of users among them."""
    text = re.sub(_IN_PIPELINE, r"\1: ", str(error))
    return " ".join(text.split()) or type(error).__name__


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
