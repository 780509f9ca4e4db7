"""The servers of all queues: the only one, the one that Sentinels name, or the primaries of a cluster."""

import redis
from redis.exceptions import NoPermissionError, RedisError

from broker.asked_places import ClusterPlace
from broker.connection import check_files, sync_client, unavailable
from broker.errors import BrokerError, BrokerUnavailable
from broker.finding import is_clustered, place_of
from broker.jobs import RedisUrls
from broker.keys import Keys
from broker.places import FixedPlace, Place


class Servers:
    """One connection to each, made when it is needed."""

    def __init__(self, settings: RedisUrls) -> None:
        check_files(settings)
        self._settings = settings
        self._clients: dict[str, redis.Redis] = {}
        self._place = self._place_of(Keys(""))

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def all(self) -> dict[str, redis.Redis]:
        """By address, or under an empty name the only one. Raises BrokerUnavailable."""
        if not isinstance(self._place, ClusterPlace):
            return {"": self._client("", self._place)}
        try:
            found = self._place.primaries()
        except (RedisError, OSError) as error:
            raise self.explained(error) from error
        return {str(address): self._client(str(address), FixedPlace(address)) for address in found}

    def of(self, keys: Keys) -> redis.Redis:
        """The one that has these keys."""
        if not is_clustered(self._settings):
            return self._client("", self._place)
        if known := self._clients.get(keys.prefix):
            return known
        return self._client(keys.prefix, self._place_of(keys))

    def explained(self, error: BaseException) -> BrokerError:
        """One line that names the URL."""
        if isinstance(error, BrokerError):
            return error
        found = unavailable(self._settings, error)
        if isinstance(error, NoPermissionError):
            return BrokerUnavailable(f"{found}; this needs the operator's user ('siglip acl operator')")
        return found

    def _place_of(self, keys: Keys) -> Place | None:
        """By a key that an operator may ask about."""
        return place_of(self._settings, keys.requests("text", "interactive"))

    def _client(self, name: str, place: Place | None) -> redis.Redis:
        if name not in self._clients:
            self._clients[name] = sync_client(self._settings, place)
        return self._clients[name]
