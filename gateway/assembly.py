"""Puts the parts of each served model together, beside what all models of a gateway share."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from broker import BrokerError, GatewayEnd, GatewayLimits, connect_gateway, model_tag
from gateway.admission import Admission
from gateway.cache import Cache
from gateway.canary import Canary
from gateway.content_keys import ContentKeys
from gateway.decode_pool import DecodePool
from gateway.decoding import DecoderSettings
from gateway.embed import Embedder
from gateway.errors import StartError
from gateway.helpers import Helpers
from gateway.label_sets import LabelSets
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.once import Once
from gateway.parts import Parts
from gateway.served import ServedModel
from gateway.shared import Shared
from gateway.streams import Streams
from gateway.tokens import TokenPool
from siglip_settings import GatewaySettings
from siglip_settings.cores import usable_cores

# What the costliest format, WebP, takes for a pixel, and room for everything else.
DECODER_BYTES_PER_PIXEL = 20
DECODER_BYTES = 256 << 20


@dataclass
class Assembly:
    """`opened` closes everything that is made here, the last first."""

    settings: GatewaySettings
    metrics: Metrics
    cache: Cache[Any]
    opened: AsyncExitStack
    _brokers: list[GatewayEnd] = field(default_factory=list, init=False)
    _decoders: dict[DecoderSettings, DecodePool] = field(default_factory=dict, init=False)

    async def models(self, served: Sequence[ServedModel]) -> Models:
        """Raises StartError."""
        settings = self.settings
        self.opened.push_async_callback(self._leave_queues)
        admission = Admission(settings.max_in_flight_rows, settings.max_in_flight_bytes)
        streams = Streams.of(settings)
        return Models([await self._parts(model, admission, streams) for model in served])

    async def _parts(self, model: ServedModel, admission: Admission, streams: Streams) -> Parts:
        settings, metrics = self.settings, self.metrics.of(model.name)
        broker = await _connect(settings, model)
        self._brokers.append(broker)
        shared = await Shared.connect(settings, model)
        self.opened.push_async_callback(shared.close)
        tokens = TokenPool(model.tokenizer, model.text_length, settings.max_text_bytes)
        self.opened.callback(tokens.close)
        keys, once = ContentKeys(model.fingerprint), Once(broker, metrics, self.cache, shared.cache)
        embedder = Embedder(model, broker, tokens, self._decoder_of(model), metrics, keys, once)
        label_sets = LabelSets(settings, keys, model.embedding_dim, embedder, shared.label_sets)
        canaries = _canaries(settings, model, broker)
        return Parts(
            settings, model, broker, tokens, embedder, admission, label_sets, streams, metrics, canaries
        )

    async def _leave_queues(self) -> None:
        """At once: where Redis does not answer, each takes some seconds."""
        await asyncio.gather(*(broker.close() for broker in self._brokers))

    def _decoder_of(self, model: ServedModel) -> DecodePool:
        """Models that take the same pictures share their decoders."""
        wanted = _decoder(self.settings, model)
        if wanted not in self._decoders:
            count = self.settings.decode_processes or usable_cores()
            helpers = Helpers(wanted, count, self.settings.max_decode_s)
            self._decoders[wanted] = DecodePool(helpers, count, on_close=helpers.close)
            self.opened.callback(self._decoders[wanted].close)
        return self._decoders[wanted]


async def _connect(settings: GatewaySettings, model: ServedModel) -> GatewayEnd:
    # Bytes in flight: of one queue and its shards. Admission bounds those of all models together.
    limits = GatewayLimits(
        queue_max_entries=settings.queue_max_entries,
        max_in_flight_bytes=settings.max_in_flight_bytes,
        no_worker_timeout_s=settings.no_worker_timeout_s,
    )
    try:
        return await connect_gateway(
            settings,
            tag=model_tag(model.name, model.fingerprint),
            fingerprint=model.fingerprint,
            towers=settings.served_towers,
            limits=limits,
        )
    except BrokerError as error:
        raise StartError(str(error)) from error


def _canaries(settings: GatewaySettings, model: ServedModel, broker: GatewayEnd) -> tuple[Canary, ...]:
    if not settings.canary_interval_s:
        return ()
    return tuple(Canary(tower, model, broker, settings.canary_interval_s) for tower in settings.served_towers)


def _decoder(settings: GatewaySettings, model: ServedModel) -> DecoderSettings:
    return DecoderSettings(
        size=model.image_size,
        resample=model.resample,
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_memory_bytes=DECODER_BYTES + DECODER_BYTES_PER_PIXEL * settings.max_image_pixels,
    )
