"""Keeps the service's own queue running."""

import logging
import time

from broker import BrokerError, EmbeddedServer
from siglip_cli.child import FIRST_PAUSE_S, LONGEST_PAUSE_S

log = logging.getLogger("siglip.serve")

now_s = time.monotonic


class QueueKeeper:
    """Starts an embedded queue again when it has ended, for as often as that takes."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._pause_s = FIRST_PAUSE_S
        self._due_s = 0.0

    def tend(self) -> None:
        """Gateway and workers wait meanwhile; a start that fails is tried again at a later call."""
        if self._server.alive() or now_s() < self._due_s:
            return
        log.warning("the queue ended; starting it again (what was waiting is sent to it anew)")
        try:
            self._server.restart()
        except (BrokerError, OSError) as error:
            log.error("the queue cannot be started, next try in %.2f s: %s", self._pause_s, error)
            self._due_s = now_s() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        else:
            self._pause_s = FIRST_PAUSE_S
