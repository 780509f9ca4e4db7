"""What a worker counts and measures."""

from collections.abc import Iterator, Sequence

import torch
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from broker import JobResult, WorkerEnd
from workers.memory import reserved_bytes, used_bytes
from workers.timing import BatchTiming

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

# Shown from the start, so that their first increase is seen as one.
EVENTS = (
    "dead_lettered",
    "expired",
    "invalid",
    "missed_beats",
    "out_of_memory",
    "outages",
    "reclaimed",
    "withdrawn",
)


class Metrics:
    """Histograms, fed after each batch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Histogram("siglip_batch_rows", "Rows in a batch.", buckets=ROWS, registry=registry)
        self._fill = Histogram(
            "siglip_batch_fill_ratio",
            "Rows in a batch, of those that fit.",
            buckets=[tenth / 10 for tenth in range(1, 11)],
            registry=registry,
        )
        self._compute_s = Histogram(
            "siglip_batch_seconds", "A batch on the device.", buckets=SECONDS, registry=registry
        )
        self._wait_s = Histogram(
            "siglip_wait_seconds",
            "An entry in the queue, until its batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self._reply_s = Histogram(
            "siglip_reply_seconds",
            "Answers of a batch, until Redis has them.",
            buckets=SECONDS,
            registry=registry,
        )

    def batch(self, results: Sequence[JobResult], max_rows: int, timing: BatchTiming) -> None:
        """A batch has been answered."""
        rows = sum(result.job.rows for result in results)
        self._rows.observe(rows)
        self._fill.observe(min(1.0, rows / max_rows))
        self._compute_s.observe(max(result.compute_us for result in results) / 1e6)
        for waited_s in timing.waited_s:
            self._wait_s.observe(waited_s)
        self._reply_s.observe((timing.replied_ns - timing.computed_ns) / 1e9)


class StateCollector:
    """Read when somebody looks."""

    def __init__(self, broker: WorkerEnd, device: torch.device) -> None:
        self._broker, self._device = broker, device

    def collect(self) -> Iterator[Metric]:
        stats = self._broker.stats
        yield CounterMetricFamily("siglip_rows", "Rows answered.", stats.pop("rows", 0))
        yield CounterMetricFamily("siglip_batches", "Batches computed.", stats.pop("batches", 0))
        seconds = stats.pop("compute_us", 0) / 1e6
        # Of these `siglip top` makes averages; here a histogram tells more.
        del stats["entries"], stats["wait_us"]
        yield CounterMetricFamily("siglip_compute_seconds", "Time on the device.", seconds)
        yield GaugeMetricFamily("siglip_queue_up", "1 while the queue answers.", self._broker.connected)
        yield GaugeMetricFamily("siglip_in_hand_entries", "Taken and not answered.", self._broker.in_hand)
        yield GaugeMetricFamily(
            "siglip_lease_age_seconds",
            "Since the lease was last refreshed; +Inf before its first time.",
            self._broker.lease_age_s,
        )
        events = CounterMetricFamily("siglip_worker_events", "What befell the work.", labels=["event"])
        counts = dict.fromkeys(EVENTS, 0) | stats
        for event, count in sorted(counts.items()):
            events.add_metric([event], count)
        yield events
        if (used := used_bytes(self._device)) is not None:
            text = "Tensors on the device; on the CPU the whole process."
            yield GaugeMetricFamily("siglip_device_memory_bytes", text, used)
        if (reserved := reserved_bytes(self._device)) is not None:
            yield GaugeMetricFamily("siglip_device_reserved_bytes", "Held from the device.", reserved)
