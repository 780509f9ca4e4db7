"""What a gateway counts and measures. Names and units follow Prometheus: seconds, bytes, _total."""

import collections
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from broker import GatewayEnd
from gateway.admission import Admission
from gateway.cache import Cache
from gateway.call import STAGES, Stage
from gateway.health import Health
from gateway.streams import Streams
from gateway.tls import Certificates
from siglip_settings import Tower

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

# All of these are shown from the start, so that their first increase is seen as one.
METHODS = [
    f"{service.full_name}/{method.name}"
    for module in (embedding_pb2, model_pb2, zero_shot_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
CODES = (
    "OK",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
)
# Those that a service can be blamed for.
REASONS = (
    "DEADLINE_EXCEEDED",
    "FINGERPRINT_MISMATCH",
    "INTERNAL",
    "NO_WORKERS",
    "OVERLOADED",
    "QUEUE_FULL",
    "QUEUE_UNAVAILABLE",
    "STOPPING",
    "WOULD_BE_LATE",
)
EVENTS = (
    "deadlines",
    "duplicates",
    "hopeless",
    "losses",
    "readded",
    "unreadable_replies",
    "withdrawn_in_work",
    "withdrawn_waiting",
)
HowEnded = Literal["deadline", "cancelled"]
Remembered = Literal["hit", "shared", "refusal", "joined", "miss"]
# Limits at which calls are refused as too many.
WALLS = (
    "in_flight_rows",
    "in_flight_bytes",
    "fair_share",
    "slow_messages",
    "streams",
    "token_bound",
    "queue_entries",
    "queue_memory",
    "predicted_wait",
    "predicted_decoding",
    "server_memory",
)


class Metrics:
    """Counters and histograms, fed where calls and items end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, buckets=SECONDS, registry=registry)
        self._calls = counter("siglip_calls", "Calls by method and status.", ["method", "code"])
        self._call_s = seconds("siglip_call_seconds", "From arrival to reply.", ["method"])
        self._stage_s = seconds(
            "siglip_stage_seconds",
            "Time of a call in one stage: decode (and tokenize), queue, compute.",
            ["model", "tower", "stage"],
        )
        self._items = counter(
            "siglip_items", "Texts and images by outcome: OK or a reason.", ["model", "tower", "outcome"]
        )
        self._failed = counter(
            "siglip_failed_calls", "Calls that ended with an error, by reason.", ["reason"]
        )
        self._walls = counter(
            "siglip_refused_at_wall", "Calls refused as too many, by the limit that was met.", ["wall"]
        )
        self._ended = counter(
            "siglip_ended_calls",
            "Calls that ran out of time or were cancelled, by the stage that they waited for.",
            ["how", "stage"],
        )
        self._cached = counter(
            "siglip_cache_items",
            "Texts and images by where they came from: hit (this gateway's memory), shared (Redis), "
            "refusal (known to be bad), joined (equal work on its way or in the call), miss (computed).",
            ["model", "tower", "result"],
        )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        for wall in WALLS:
            self._walls.labels(wall)
        for how, stage in product(get_args(HowEnded), STAGES):
            self._ended.labels(how, stage)
        for method, code in product(METHODS, CODES):
            self._calls.labels(method, code)
        for reason in REASONS:
            self._failed.labels(reason)

    def call(self, method: str, code: str, reason: str | None, seconds: float | None) -> None:
        """A call has ended; `seconds` None: how long it took says nothing."""
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._call_s.labels(method).observe(seconds)
        if reason is not None:
            self._failed.labels(reason).inc()

    def refused(self, wall: str) -> None:
        """A call met a limit that was full."""
        self._walls.labels(wall).inc()

    def ended(self, how: HowEnded, stage: Stage) -> None:
        """A call has ended without having been answered."""
        self._ended.labels(how, stage).inc()

    def of(self, model: str) -> "ModelMetrics":
        """What is counted for each served model by itself."""
        return ModelMetrics(model, self._items, self._stage_s, self._cached)


class ModelMetrics:
    """Of the items of one served model."""

    def __init__(self, model: str, items: Counter, stage_s: Histogram, cached: Counter) -> None:
        self._model, self._items, self._stage_s, self._cached = model, items, stage_s, cached
        for tower in get_args(Tower):
            for result in get_args(Remembered):
                cached.labels(model, tower, result)

    def cached(self, tower: Tower, result: Remembered, count: int) -> None:
        """So many items came from there."""
        if count:
            self._cached.labels(self._model, tower, result).inc(count)

    def items(self, tower: str, outcomes: Iterable[str], **stage_us: int) -> None:
        """The items of one call have ended; `stage_us` names stages and their microseconds."""
        for outcome, count in collections.Counter(outcomes).items():
            self._items.labels(self._model, tower, outcome).inc(count)
        for stage, micros in stage_us.items():
            self._stage_s.labels(self._model, tower, stage).observe(micros / 1e6)


class StateCollector:
    """Read when somebody looks: what is in flight, the queue, the workers, the health, the certificate."""

    def __init__(
        self,
        admission: Admission,
        streams: Streams,
        brokers: Mapping[str, GatewayEnd],
        health: Health,
        certificates: Certificates | None,
        cache: Cache[Any],
    ) -> None:
        """`brokers` by the name of their model."""
        self._admission, self._streams, self._brokers, self._health = admission, streams, brokers, health
        self._cache = cache
        self._certificates = certificates

    def collect(self) -> Iterator[Metric]:
        admission = self._admission
        yield _gauge("siglip_in_flight_rows", "Texts and images accepted and not answered.", admission.rows)
        yield _gauge("siglip_in_flight_bytes", "Request bytes accepted and not answered.", admission.bytes)
        yield _gauge("siglip_streams", "EmbedStream calls that are open.", self._streams.count)
        yield _gauge("siglip_cache_bytes", "What remembered vectors and refusals take.", self._cache.bytes)
        yield _gauge("siglip_cache_entries", "Vectors and refusals remembered.", len(self._cache))
        outage = any(broker.outage for broker in self._brokers.values())
        yield _gauge("siglip_queue_up", "1 while the queue's server can be used.", not outage)
        yield from self._queues()
        healthy = GaugeMetricFamily("siglip_healthy", "1 while a service serves.", labels=["service"])
        for service, serves in self._health.serving().items():
            healthy.add_metric([service], serves)
        yield healthy
        events = CounterMetricFamily("siglip_queue_events", "What befell the queue.", labels=["event"])
        stats = sum((broker.stats for broker in self._brokers.values()), collections.Counter[str]())
        counts = dict.fromkeys(EVENTS, 0) | stats
        for event, count in sorted(counts.items()):
            events.add_metric([event], count)
        yield events
        if self._certificates:
            text = "When the certificate in use ends, in Unix time."
            yield _gauge("siglip_tls_certificate_expiry_seconds", text, self._certificates.expires_s)

    def _queues(self) -> Iterator[Metric]:
        """Of each model and tower."""
        labels = ["model", "tower", "class"]
        depth = GaugeMetricFamily("siglip_queue_entries", "Entries waiting or in work.", labels=labels)
        oldest = GaugeMetricFamily(
            "siglip_queue_oldest_seconds", "Age of this gateway's oldest entry.", labels=labels
        )
        workers = GaugeMetricFamily("siglip_live_workers", "Workers with a lease.", labels=labels[:2])
        for name, broker in self._brokers.items():
            for state in broker.streams():
                depth.add_metric([name, state.tower, state.job_class], state.entries)
                oldest.add_metric([name, state.tower, state.job_class], state.oldest_s)
            for tower, count in broker.live_workers().items():
                workers.add_metric([name, tower], count)
        yield from (depth, oldest, workers)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
