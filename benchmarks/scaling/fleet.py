"""The processes of one step: real gateways and queue, real workers around a stand-in for the model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.scaling.plan import BATCH_ROWS, Step
from broker import EmbeddedServer
from siglip_cli.probe import serves
from tests.faults.fleet import Part
from tests.support.cluster import cluster
from tests.support.slow_model import slow_worker
from tests.support.valkey import free_port, wait_until

START_TIMEOUT_S = 120.0


@contextmanager
def fleet(step: Step, model: Path, folder: Path) -> Iterator[list[str]]:
    """The addresses of the gateways, ready; everything ends with the block."""
    with ExitStack() as stack:
        queue_url = _queue(stack, step, folder)
        for _ in range(step.workers):
            stack.enter_context(
                slow_worker(
                    "text",
                    model,
                    queue_url,
                    batch_s=step.batch_s,
                    max_batch_rows=BATCH_ROWS if step.batch_s else 64,
                    shards=step.shards,
                )
            )
        addresses = [_gateway(stack, step, model, queue_url, folder) for _ in range(step.gateways)]
        for address in addresses:
            wait_until(partial(serves, address), START_TIMEOUT_S)
        yield addresses


def _queue(stack: ExitStack, step: Step, folder: Path) -> str:
    if step.shards == 1:
        return stack.enter_context(EmbeddedServer()).url
    return stack.enter_context(cluster(folder)).url


def _gateway(stack: ExitStack, step: Step, model: Path, queue_url: str, folder: Path) -> str:
    address = f"127.0.0.1:{free_port()}"
    arguments = ["gateway", "--towers", "text", "--listen", address, "--log-level", "warning"]
    environ = {"SIGLIP_REDIS_URL": queue_url, "SIGLIP_MODEL": str(model), "SIGLIP_CANARY_INTERVAL_S": "0"}
    if step.shards > 1:
        environ |= {"SIGLIP_REDIS_CLUSTER": "on", "SIGLIP_REDIS_SHARDS": str(step.shards)}
    part = Part("gateway", arguments, environ, folder / "gateway.log")
    part.start()
    stack.callback(part.end, 15)
    return address
