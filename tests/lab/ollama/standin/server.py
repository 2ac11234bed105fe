"""Ollama's HTTP interface, as far as a question-answering platform uses it."""

import json
import select
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from . import api, environment
from .answers import Answering
from .reply import ReplyError
from .runners import Runners

_BODY_LIMIT = 64 * 1024 * 1024


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, settings: environment.Environment, version: str) -> None:
        runners = Runners(settings)
        self.site = api.Site(settings, version, runners, Answering(settings, runners))
        super().__init__((settings.host, settings.port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up when they like; anything else is worth its traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, which may carry many requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ollama", ""
    disable_nagle_algorithm = True
    timeout = 600
    server: Server
    verbs: ClassVar[Mapping[str, str]] = {"GET": "GET", "HEAD": "GET", "POST": "POST"}

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the names http.server looks for

    def gone(self) -> bool:
        """Whether the client has hung up; it sends nothing more while it waits."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def whole(self, status: int, body: Any) -> None:
        """A reply in one piece."""
        plain = isinstance(body, str)
        content = body.encode() if plain else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8" if plain else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def begin_lines(self) -> None:
        """A reply of JSON lines of yet unknown number."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def line(self, body: Mapping[str, Any]) -> None:
        """One of them."""
        content = json.dumps(body).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def end_lines(self) -> None:
        """No more of them."""
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nothing: the line below says more, and never what was asked."""

    def _answer(self) -> None:
        began = time.monotonic()
        path = self.path.partition("?")[0]
        body = self._body()
        route = api.ROUTES.get((self.verbs.get(self.command, self.command), path))
        try:
            if route is None:
                self.whole(404, "404 page not found")
            elif body is None:
                self.whole(400, {"error": "invalid request body; one JSON object is needed"})
            else:
                route(self.server.site, self, body)
        except ReplyError as error:
            self.whole(error.status, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        print(f"{_now()} {self.command} {path} {time.monotonic() - began:.3f}s", flush=True)

    def _body(self) -> dict[str, Any] | None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _BODY_LIMIT or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return None
        content = self.rfile.read(length)
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def serve(settings: environment.Environment, version: str) -> None:
    """Until the process is ended."""
    with Server(settings, version) as server:
        print(f"{_now()} Listening on {settings.host}:{settings.port} (version {version})", flush=True)
        server.serve_forever()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
