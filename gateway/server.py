"""Starts, serves and stops the gateway: everything is put together here, and taken apart again."""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry
from siglip.v1 import embedding_pb2_grpc, model_pb2_grpc, zero_shot_pb2_grpc

from gateway import traces
from gateway.access import Access
from gateway.arrivals import Arrivals
from gateway.assembly import Assembly
from gateway.cache import Cache
from gateway.crowds import most_fields
from gateway.deadlines import Deadlines
from gateway.embedded import Item
from gateway.embedding import EmbeddingService
from gateway.errors import StartError
from gateway.health import Health
from gateway.interceptor import CallInterceptor
from gateway.listen import bind, is_local
from gateway.memory import return_freed_memory
from gateway.metrics import Metrics, StateCollector
from gateway.model import ModelService
from gateway.models import Models
from gateway.parts import Parts
from gateway.served import ServedModel
from gateway.stream import AGE_SHARE
from gateway.tls import certificates_of
from gateway.zero_shot import ZeroShotService
from siglip_metrics import Page, PageError, new_registry
from siglip_settings import GatewaySettings, Tower

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

log = logging.getLogger(__name__)

EMBEDDING = "siglip.v1.EmbeddingService"
ZERO_SHOT = "siglip.v1.ZeroShotService"
MODEL = "siglip.v1.ModelService"

# Above it gRPC refuses calls, and counts those that have just ended, so clients should keep well below.
# Without a number, or with gRPC's protection off, a peer that opens and resets calls costs gigabytes.
MAX_CALLS_OF_A_CONNECTION = 1024
# What a caller has beyond the longest call to read its reply on a connection that ends.
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that accepts calls. `port` is 0 on a unix socket."""

    port: int
    models: Models
    server: grpc.aio.Server
    calls: CallInterceptor
    health: Health
    opened: AsyncExitStack
    following: list[asyncio.Task[None]]
    page: Page | None
    traces: "Traces | None"

    @property
    def parts(self) -> Parts:
        """Of the first model."""
        return self.models.first

    async def stop(self, drain_timeout_s: float) -> None:
        """Accepts no more calls; gives those in work `drain_timeout_s` to end."""
        end = time.monotonic() + drain_timeout_s
        self.health.stop()
        self.parts.streams.drain()
        await self.calls.drain(drain_timeout_s)
        await self.server.stop(max(0.0, end - time.monotonic()))
        for task in self.following:
            task.cancel()
        await asyncio.gather(*self.following, return_exceptions=True)
        if self.page:
            self.page.close()
        await self.opened.aclose()
        if self.traces:
            await asyncio.to_thread(self.traces.close)


async def serve(
    settings: GatewaySettings,
    on_listening: Callable[[int], None] | None = None,
    probe_socket: str | None = None,
) -> None:
    """Runs until SIGTERM or SIGINT and all accepted work is answered; a second signal ends it at once.

    `on_listening` is given the port (0 on a unix socket) as soon as calls are accepted. `probe_socket` is
    a second address for whoever started this process, always in clear.
    Raises StartError.
    """
    return_freed_memory()
    gateway = await start(settings, probe_socket)
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    # Not earlier: until calls are accepted SIGTERM ends the process at once. The event loop would hear of it
    # only when the checkpoint has been fetched and read.
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # What is here now stays: the collector need not go through it again while callers wait.
    gc.collect()
    gc.freeze()
    if on_listening:
        on_listening(gateway.port)
    for parts in gateway.models.each:
        log.info(
            "serving %r, fingerprint %s, on %s (port %d)",
            parts.model.name,
            parts.model.fingerprint,
            settings.listen,
            gateway.port,
        )
    await stop.wait()
    log.info("draining for at most %g s", settings.drain_timeout_s)
    stopping = asyncio.create_task(gateway.stop(settings.drain_timeout_s))
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait((stopping, hurrying), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await gateway.server.stop(None)
    hurrying.cancel()
    await stopping
    log.info("stopped")


async def start(settings: GatewaySettings, probe_socket: str | None = None) -> Gateway:
    """A gateway that accepts calls on `settings.listen`. Raises StartError."""
    if settings.redis_url is None:
        raise StartError(
            "no queue given: set --redis-url or SIGLIP_REDIS_URL (`siglip serve` brings its own)"
        )
    access, certificates, deadlines = _access(settings), certificates_of(settings), Deadlines.of(settings)
    encryption = certificates.credentials() if certificates else None
    spans = traces.start(settings)
    served = [ServedModel.load(each) for each in settings.each_model]
    registry = new_registry(
        process="gateway",
        model=",".join(model.name for model in served),
        fingerprint=",".join(model.fingerprint for model in served),
    )
    metrics, cache, opened = Metrics(registry), Cache[Item](settings.cache_bytes), AsyncExitStack()
    try:
        models = await Assembly(settings, metrics, cache, opened).models(served)
        canaries = [canary for parts in models.each for canary in parts.canaries]
        brokers = {parts.model.name: parts.broker for parts in models.each}
        health = Health(brokers, settings.served_towers, _needs(settings), canaries)
        admission, streams = models.first.admission, models.first.streams
        registry.register(StateCollector(admission, streams, brokers, health, certificates, cache))
        arrivals = Arrivals(settings.max_slow_messages)
        calls = CallInterceptor(deadlines, access, arrivals, metrics, most_fields(settings), spans)
        server = _server(settings, models, calls, health)
        port = bind(server, settings.listen, encryption)
        if probe_socket:
            bind(server, f"unix:{probe_socket}", None)
        page = _page(settings, registry, health)
    except BaseException:
        await opened.aclose()
        raise
    await health.refresh()
    await server.start()
    following = [asyncio.create_task(canary.follow()) for canary in canaries]
    following.append(asyncio.create_task(health.follow()))
    return Gateway(port, models, server, calls, health, opened, following, page, spans)


def _page(settings: GatewaySettings, registry: CollectorRegistry, health: Health) -> Page | None:
    """Raises StartError."""
    if settings.metrics_listen is None:
        return None
    try:
        page = Page(settings.metrics_listen, registry, health.serving)
    except PageError as error:
        raise StartError(str(error)) from error
    log.info("metrics are on port %d", page.port)
    return page


def _access(settings: GatewaySettings) -> Access:
    """Raises StartError where tokens would travel in clear."""
    access = Access(settings.token_file)
    in_clear = settings.tls_cert_file is None and not is_local(settings.listen)
    if access.needs_token and in_clear and settings.plaintext_tokens == "refuse":
        raise StartError(
            f"tokens would travel in clear to {settings.listen}: set --tls-cert-file and --tls-key-file, "
            "or --plaintext-tokens allow where something in front speaks TLS"
        )
    return access


def _needs(settings: GatewaySettings) -> dict[str, Collection[Tower]]:
    served = settings.served_towers
    return {"": served, EMBEDDING: served, ZERO_SHOT: ("text", "vision"), MODEL: ()}


def _grace_s(settings: GatewaySettings) -> float:
    """A call or a stream that comes in the last moment of a connection has its whole time all the same."""
    return settings.max_connection_age_s * AGE_SHARE + settings.max_deadline_s + GRACE_S


def _server(
    settings: GatewaySettings, models: Models, calls: CallInterceptor, health: Health
) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[calls],
        options=[
            # Without this a second server would share the port silently.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", MAX_CALLS_OF_A_CONNECTION),
            # Else the windows of bodies that are not read yet grow with the speed of the connection.
            ("grpc.http2.bdp_probe", 0),
            # Replies that nobody reads are held by gRPC, outside all our limits: until the connection ends.
            ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", round(_grace_s(settings) * 1000)),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # The default of five minutes punishes clients that ping to keep their connection.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ],
    )
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(EmbeddingService(models), server)
    zero_shot_pb2_grpc.add_ZeroShotServiceServicer_to_server(ZeroShotService(models), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.reflection == "off" or (settings.reflection == "auto" and not is_local(settings.listen)):
        return server
    names = (EMBEDDING, ZERO_SHOT, MODEL, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server
