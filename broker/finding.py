"""Settings -> the place of a queue: the one server of the URL, or whoever answers for it right now."""

from functools import partial
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from broker.asked_places import ClusterPlace, SentinelPlace
from broker.connection import UNUSABLE, connection_options, parse_node, unusable, urls
from broker.errors import UnusableSettings
from broker.jobs import RedisUrls
from broker.places import Address, Place

# For a node that is asked where the queue is: there are others to ask.
ASK_TIMEOUT_S = 1.0
REDIS_PORT, SENTINEL_PORT = 6379, 26379


def is_clustered(settings: RedisUrls) -> bool:
    return settings.redis_cluster == "on"


def place_of(settings: RedisUrls, key: str) -> Place | None:
    """Where `key` is, and all keys with the same braces; None when the URL says it. BrokerUnavailable."""
    name = settings.redis_sentinel_name
    if not name and not is_clustered(settings):
        return None
    if name and is_clustered(settings):
        raise UnusableSettings("set either --redis-sentinel-name or --redis-cluster on, not both")
    nodes, dial = seeds(settings), partial(_connection, settings)
    return SentinelPlace(nodes, dial, name) if name else ClusterPlace(nodes, dial, key)


def seeds(settings: RedisUrls) -> list[Address]:
    """The hosts of the URL: Sentinels, or nodes of a cluster. Raises BrokerUnavailable."""
    port = SENTINEL_PORT if settings.redis_sentinel_name else REDIS_PORT
    try:
        parsed = [parse_node(url) for url in urls(settings)]
        if any("path" in each for each in parsed):
            raise ValueError("a unix socket is neither a Sentinel nor a cluster")
        return [Address(each.get("host", "localhost"), each.get("port", port)) for each in parsed]
    except UNUSABLE as error:
        raise unusable(settings, error) from None


def _connection(settings: RedisUrls, node: Address, *, login: bool = True) -> Connection:
    url = urls(settings)[0]
    options: dict[str, Any] = {**connection_options(settings), **parse_node(url)}
    options |= {"host": node.host, "port": node.port, "retry": Retry(NoBackoff(), 0), "db": 0}
    options |= {"socket_timeout": ASK_TIMEOUT_S, "socket_connect_timeout": ASK_TIMEOUT_S}
    if not login:
        options |= {"username": None, "password": None}
    return (SSLConnection if url.startswith("rediss://") else Connection)(**options)
