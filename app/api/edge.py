"""Around every request: a limit on its size, a number for its name, and a count of how it went."""

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import log as logs
from app import metrics
from app.api.problems import Problem, response

log = logging.getLogger("app.access")

# What a multipart form adds around a document of the largest size, and all that any other request needs.
FORM_BYTES = 64 * 1024
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# A chat by OpenAI's API comes with all that was said before.
CHAT_BYTES = 1024 * 1024
_UPLOAD = re.compile(r"/api/v1/collections/[^/]+/documents")


# Browsers say from which kind of page a request comes; programs say nothing.
OWN_PAGES = (b"", b"same-origin", b"none")


class TooLargeError(Exception):
    """The body goes on beyond the limit."""


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._largest_document = max_bytes

    def _most(self, scope: Scope) -> int:
        """The most bytes that this request's body may have; nobody has signed in yet when it is read."""
        if scope["path"] == "/v1/chat/completions":
            return CHAT_BYTES
        return FORM_BYTES + (self._largest_document if _UPLOAD.fullmatch(scope["path"]) else 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")[:64] or uuid.uuid4().hex
        scope["request_id"] = request_id
        logs.begin(request_id=request_id)
        status = 500
        started = False
        received = 0
        most = self._most(scope)

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal status, started
            if received > most and not started:
                # The framework takes the break for a form it cannot read, and says so.
                return
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                extra = [(b"x-request-id", request_id.encode("latin-1")), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            if _forged(scope, headers):
                problem = Problem(403, "page = another site's; our own", "open the platform itself and do it there")
                await response(problem, request_id, scope["path"])(scope, receive, noted)
                return
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > most:
                raise TooLargeError
            await self._app(scope, counted, noted)
            if received > most and not started:
                raise TooLargeError
        except TooLargeError:
            received = 0
            if not started:
                problem = Problem(413, f"body = more than {most} bytes; a smaller one", "split the document")
                await response(problem, request_id, scope["path"])(scope, receive, noted)
        finally:
            _count(scope, status, time.monotonic() - began)


def _forged(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether another site's page makes this browser do something in its user's name, or sign in under another one."""
    if scope["method"] in {"GET", "HEAD", "OPTIONS"} or b"authorization" in headers:
        return False
    return headers.get(b"sec-fetch-site", b"") not in OWN_PAGES


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    # A caller may write any word there, and each would be another figure for ever.
    method = scope["method"] if scope["method"] in METHODS else "other"
    metrics.REQUESTS.labels(method, route, status).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    if not route.startswith(("/health", "/metrics")):
        told = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 3)}
        log.info("request", extra=told)
