"""grpc.health.v1: each service is serving while every tower that it needs has a live worker, and has
lately computed its canary rightly.

Names: one for each service, "" for all served towers together, and "liveness", which says only that
this process answers and so never restarts a healthy gateway because Redis or the workers are away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
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

    A tower that is not among the `served` never counts as live.
    """

    def __init__(
        self,
        broker: GatewayEnd,
        served: Collection[Tower],
        needs: dict[str, Collection[Tower]],
        canaries: Collection[Canary],
    ) -> None:
        self._broker = broker
        self._served = served
        self._canaries = canaries
        self._needs = needs
        self._status = {**dict.fromkeys(needs, NOT_SERVING), LIVENESS: SERVING}
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
        live = {tower for tower in self._served if await self._broker.workers(tower)}
        live -= {canary.tower for canary in self._canaries if not canary.proved}
        usable = self._broker.outage is None and not self._stopping
        for name, towers in self._needs.items():
            self._set(name, SERVING if usable and live.issuperset(towers) else NOT_SERVING)

    def stop(self) -> None:
        """Nothing is served any more, for good; watchers are told, and let go."""
        self._stopping = True
        self._set_all(NOT_SERVING)
        self._tell()

    def _set_all(self, status: int) -> None:
        for name in self._needs:
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
