"""What a gateway counts and measures. Names and units follow Prometheus: seconds, bytes, _total."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from broker import GatewayEnd
from gateway.admission import Admission
from gateway.health import Health

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

# Shown from the start, so that their first increase is seen as one.
EVENTS = ("deadlines", "duplicates", "hopeless", "losses", "readded", "unreadable_replies")


class Metrics:
    """Counters and histograms, fed where calls and items end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "siglip_calls", "Calls by method and status.", ["method", "code"], registry=registry
        )
        self._call_s = Histogram(
            "siglip_call_seconds", "From arrival to reply.", ["method"], buckets=SECONDS, registry=registry
        )
        self._stage_s = Histogram(
            "siglip_stage_seconds",
            "Time of a call in one stage: decode (and tokenize), queue, compute.",
            ["tower", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._items = Counter(
            "siglip_items",
            "Texts and images by outcome: OK or a reason.",
            ["tower", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "siglip_refused_calls", "Calls refused, by reason.", ["reason"], registry=registry
        )

    def call(self, method: str, code: str, reason: str | None, seconds: float) -> None:
        """A call has ended."""
        self._calls.labels(method, code).inc()
        self._call_s.labels(method).observe(seconds)
        if reason is not None:
            self._refused.labels(reason).inc()

    def items(self, tower: str, outcomes: Iterable[str], **stage_us: int) -> None:
        """The items of one call have ended; `stage_us` names stages and their microseconds."""
        for outcome in outcomes:
            self._items.labels(tower, outcome).inc()
        for stage, micros in stage_us.items():
            self._stage_s.labels(tower, stage).observe(micros / 1e6)


class StateCollector:
    """Read when somebody looks: what is in flight, the queue, the workers, the health."""

    def __init__(self, admission: Admission, broker: GatewayEnd, health: Health) -> None:
        self._admission, self._broker, self._health = admission, broker, health

    def collect(self) -> Iterator[Metric]:
        admission = self._admission
        yield _gauge("siglip_in_flight_rows", "Texts and images accepted and not answered.", admission.rows)
        yield _gauge("siglip_in_flight_bytes", "Request bytes accepted and not answered.", admission.bytes)
        outage = self._broker.outage is not None
        yield _gauge("siglip_queue_up", "1 while the queue's server can be used.", not outage)
        depth = GaugeMetricFamily(
            "siglip_queue_entries", "Entries waiting or in work.", labels=["tower", "class"]
        )
        oldest = GaugeMetricFamily(
            "siglip_queue_oldest_seconds", "Age of the oldest entry.", labels=["tower", "class"]
        )
        workers = GaugeMetricFamily("siglip_live_workers", "Workers with a lease.", labels=["tower"])
        for state in self._broker.streams():
            depth.add_metric([state.tower, state.job_class], state.entries)
            if state.oldest_s is not None:
                oldest.add_metric([state.tower, state.job_class], state.oldest_s)
        for tower, count in self._broker.live_workers().items():
            workers.add_metric([tower], count)
        yield from (depth, oldest, workers)
        healthy = GaugeMetricFamily("siglip_healthy", "1 while a service serves.", labels=["service"])
        for service, serves in self._health.serving().items():
            healthy.add_metric([service], serves)
        yield healthy
        events = CounterMetricFamily("siglip_queue_events", "What befell the queue.", labels=["event"])
        counts = dict.fromkeys(EVENTS, 0) | self._broker.stats
        for event, count in sorted(counts.items()):
            events.add_metric([event], count)
        yield events


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
