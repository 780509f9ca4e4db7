"""TLS connections of tasks that take renewed certificates when they connect again."""

from collections.abc import Mapping
from typing import Any

import redis.asyncio


class RereadingConnection(redis.asyncio.SSLConnection):
    """redis-py's synchronous one does this by itself; its asynchronous one keeps the first files for ever."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        self.ssl_context.context = None
        return super()._connection_arguments()
