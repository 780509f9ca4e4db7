"""The arithmetic: cores, queues and network for so many images a second."""

import math
from dataclasses import dataclass

from benchmarks.capacity.costs import PIXEL_BYTES, Costs

# Above this share of its cores a process keeps others waiting long.
BUSY = 0.7
# A gateway has one event loop, and beside it as many decoding processes as it has cores.
GATEWAY_CORES = 8
# Each image's pixels come and go.
CROSSINGS = 2


@dataclass(frozen=True)
class Need:
    """For so many images a second."""

    rate: float
    front_cores: float
    gateways: int
    shards: int
    queue_bytes_a_second: float
    jpeg_bytes_a_second: float


def need(costs: Costs, rate: float) -> Need:
    front_cores = rate * costs.front_us / 1e6 / BUSY
    # Whichever is full first: its one loop, or all of its cores.
    by_loop = rate * costs.gateway_us / 1e6 / BUSY
    return Need(
        rate,
        front_cores,
        math.ceil(max(by_loop, front_cores / GATEWAY_CORES)),
        math.ceil(rate * costs.queue_us / 1e6 / BUSY),
        rate * PIXEL_BYTES * CROSSINGS,
        rate * costs.jpeg_bytes,
    )


def workers(rate: float, rate_of_one: float) -> int:
    return math.ceil(rate / rate_of_one / BUSY)
