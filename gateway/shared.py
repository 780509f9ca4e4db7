"""What gateways of one queue share through Redis beside the queue: label sets and, if wanted, vectors."""

from dataclasses import dataclass
from typing import Self

from broker import BrokerError, LabelSetStore, SharedCache, model_tag
from gateway.errors import StartError
from gateway.served import ServedModel
from siglip_settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Shared:
    label_sets: LabelSetStore
    cache: SharedCache | None

    @classmethod
    async def connect(cls, settings: GatewaySettings, model: ServedModel) -> Self:
        """Raises StartError."""
        tag = model_tag(model.name, model.fingerprint)
        try:
            label_sets = LabelSetStore(
                settings, tag=tag, max_bytes=settings.label_sets_bytes, ttl_s=settings.label_set_ttl_s
            )
            return cls(label_sets, await _cache(settings, tag, model.embedding_dim))
        except BrokerError as error:
            raise StartError(str(error)) from error

    async def close(self) -> None:
        await self.label_sets.close()
        if self.cache:
            await self.cache.close()


async def _cache(settings: GatewaySettings, tag: str, dim: int) -> SharedCache | None:
    if not settings.shared_cache_bytes:
        return None
    if not settings.cache_bytes:
        raise StartError("--shared-cache-bytes needs a cache of this gateway: set --cache-bytes above 0")
    cache = SharedCache(
        settings,
        tag=tag,
        dim=dim,
        max_bytes=settings.shared_cache_bytes,
        ttl_s=settings.shared_cache_ttl_s,
    )
    await cache.start()
    return cache
