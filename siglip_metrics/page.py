"""The admin page of one process: /metrics for Prometheus; /healthz and /readyz for whoever runs it."""

import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Start = Callable[..., Any]
Ready = Callable[[], Mapping[str, bool]]
"""Which services are ready, by name; `ALL` is what /readyz answers for when it is asked for none."""

ALL = "all"


class PageError(Exception):
    """The page cannot be served. The message is one line."""


class _Server(ThreadingMixIn, WSGIServer):
    """Threads, so that one slow reader does not keep others from it."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds for a request to arrive

    def log_message(self, *_: Any) -> None:
        """A scrape is nothing to tell."""


class Page:
    """Serves from a thread until closed. `port` is the one that was opened."""

    def __init__(self, listen: str, registry: CollectorRegistry, ready: Ready) -> None:
        """`listen` is host:port; port 0: any. `ready` is called from the page's threads. Raises PageError."""
        host, colon, port = listen.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise PageError(f"--metrics-listen is {listen!r}; it must be host:port")
        self._registry, self._ready = registry, ready
        try:
            self._server = make_server(
                host.strip("[]"), int(port), self._answer, server_class=_Server, handler_class=_Quiet
            )
        except OSError as error:
            raise PageError(f"cannot serve metrics on {listen}: {error.strerror}") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest(self._registry)]
        if path == "/healthz":
            return _text(start, "200 OK", "alive")
        if path == "/readyz":
            return _text(start, *self._readiness(environ.get("QUERY_STRING", "")))
        return _text(start, "404 Not Found", "/metrics, /healthz and /readyz are here")

    def _readiness(self, query: str) -> tuple[str, str]:
        """Status and line for /readyz?service=NAME."""
        name = parse_qs(query).get("service", [ALL])[0]
        services = self._ready()
        if name not in services:
            return "404 Not Found", f"no such service; known: {', '.join(sorted(services))}"
        return ("200 OK", "ready") if services[name] else ("503 Service Unavailable", "not ready")


def _text(start: Start, status: str, line: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain")])
    return [f"{line}\n".encode()]
