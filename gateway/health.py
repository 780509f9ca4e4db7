"""grpc.health.v1: each service is serving while every tower that it needs has a live worker, and has
lately computed its canary rightly.

Names: one for each service, "" for all served towers together, "models/NAME" for those of one model, and
"liveness", which says only that this process answers and so never restarts a healthy gateway because Redis
or the workers are away. Of several models all must be there before a name serves for the first time; from
then on one is enough: those that work must not be taken away from their callers with the one that does not.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker import GatewayEnd
from gateway.canary import Canary
from siglip_metrics import ALL
from siglip_settings import Tower

log = logging.getLogger(__name__)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

LIVENESS = "liveness"
CHECK_PERIOD_S = 0.1


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """`needs` says which towers each service needs; a service that needs none needs only the queue.

    A tower that is not among the `served` never counts as live. `brokers` by the name of their model.
    """

    def __init__(
        self,
        brokers: Mapping[str, GatewayEnd],
        served: Collection[Tower],
        needs: dict[str, Collection[Tower]],
        canaries: Collection[Canary],
    ) -> None:
        self._brokers = brokers
        self._served = served
        self._canaries = canaries
        self._needs = needs
        self._of_models = {name: f"models/{name}" for name in brokers}
        self._names = [*needs, *self._of_models.values()]
        self._status = {**dict.fromkeys(self._names, NOT_SERVING), LIVENESS: SERVING}
        self._begun: set[str] = set()
        self._changed = asyncio.Event()
        self._stopping = False

    async def follow(self) -> None:
        """Keeps the statuses true until cancelled; nobody else would notice if it ended."""
        failing = False
        while True:
            try:
                await self.refresh()
                failing = False
            except Exception:
                if not failing:
                    log.exception("health cannot be told")
                failing = True
                self._set_all(NOT_SERVING)
            await asyncio.sleep(CHECK_PERIOD_S)

    def serving(self) -> dict[str, bool]:
        """Which names are healthy."""
        return {name or ALL: status == SERVING for name, status in self._status.items()}

    async def refresh(self) -> None:
        """Takes over what the broker saw of the queue and its workers a moment ago."""
        live = {model: await self._live(model) for model in self._brokers}
        for name, towers in self._needs.items():
            able = [live_here.issuperset(towers) for live_here in live.values() if live_here is not None]
            if len(able) == len(live) and all(able):
                self._begun.add(name)
            self._set(name, SERVING if any(able) and name in self._begun else NOT_SERVING)
        for model, name in self._of_models.items():
            here = live[model]
            self._set(name, SERVING if here is not None and here.issuperset(self._served) else NOT_SERVING)

    async def _live(self, model: str) -> set[Tower] | None:
        """The towers that can compute it now; None where its queue cannot be used."""
        broker = self._brokers[model]
        if broker.outage is not None or self._stopping:
            return None
        unproved = {each.tower for each in self._canaries if each.model.name == model and not each.proved}
        return {tower for tower in self._served if await broker.workers(tower)} - unproved

    def stop(self) -> None:
        """Nothing is served any more, for good; watchers are told, and let go."""
        self._stopping = True
        self._set_all(NOT_SERVING)
        self._tell()

    def _set_all(self, status: int) -> None:
        for name in self._names:
            self._set(name, status)

    def _set(self, name: str, status: int) -> None:
        if self._status[name] != status:
            shown = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
            log.info("health of %r is now %s", name, shown)
            self._status[name] = status
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._status:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status[request.service])

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        told = None
        while True:
            # Taken before the status is read, so that no change in between is missed.
            changed = self._changed
            status = self._status.get(request.service, SERVICE_UNKNOWN)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if self._stopping:
                return
            await changed.wait()
