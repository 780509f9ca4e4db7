"""A small server that speaks the part of the Hugging Face hub's protocol that downloads use."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


@dataclass
class Hub:
    """Repositories by id; `gated` ones want TOKEN and `private` ones do not even admit to exist."""

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    broken: bool = False
    cut: str = ""
    """The end of a file's name whose connection breaks half way."""
    url: str = ""

    def files_sent(self) -> set[str]:
        return {path.rsplit("/", 1)[-1] for path in self.requests if path.startswith("GET /cdn/")}


@contextmanager
def running_hub(**repositories: Path) -> Iterator[Hub]:
    """Served under `http://127.0.0.1:...`; keyword `a__b` is the id `a/b`."""
    hub = Hub({name.replace("__", "/"): folder for name, folder in repositories.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if hub.broken:
                return self.send(500, b"broken")
            parts = path.strip("/").split("/")
            if parts[0] == "cdn":
                return self.send(200, self.file(parts[1:]).read_bytes())
            is_api = parts[:2] == ["api", "models"]
            if parts[0] == "api" and not is_api:  # news of the client's own, no part of a download
                return self.send(404, b"")
            owner, name, kind, revision, *rest = parts[2:] if is_api else parts
            repository = f"{owner}/{name}"
            refusal = self.refusal(repository, revision)
            if refusal:
                return self.send(*refusal)
            if is_api and kind == "revision":
                return self.send_json({"id": repository, "sha": COMMIT, "siblings": []})
            if is_api and kind == "tree":
                return self.send_json(tree(hub.repositories[repository]))
            return self.resolve(repository, rest)

        do_HEAD = do_GET

        def refusal(self, repository: str, revision: str) -> tuple[int, bytes, dict[str, str]] | None:
            allowed = self.headers.get("authorization") == f"Bearer {TOKEN}"
            hidden = repository in hub.private and not allowed
            if repository not in hub.repositories or hidden:
                return 401, b"no", {"X-Error-Code": "RepoNotFound"}
            if repository in hub.gated and not allowed:
                return 403, b"no", {"X-Error-Code": "GatedRepo"}
            if revision not in ("main", "v1", COMMIT):
                return 404, b"no", {"X-Error-Code": "RevisionNotFound"}
            return None

        def file(self, parts: list[str]) -> Path:
            return hub.repositories["/".join(parts[:2])].joinpath(*parts[2:])

        def resolve(self, repository: str, rest: list[str]) -> None:
            content = self.file([*repository.split("/"), *rest]).read_bytes()
            headers = {
                "Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{repository}/{'/'.join(rest)}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
            self.send(302, b"", headers)

        def send_json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cut and self.path.endswith(hub.cut) and status == 200:
                body = body[: len(body) // 2]
                self.close_connection = True
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


def tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
