"""The browser's token: where scripts cannot read it and other sites cannot send it; renewed while it is used."""

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "__Host-rag"


def put(response: Response, token: str, seconds: int) -> None:
    """Let the browser send the token with every request, for so long."""
    response.set_cookie(NAME, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict")


def take_away(response: Response) -> None:
    """Let the browser forget the token."""
    response.delete_cookie(NAME, path="/", secure=True, httponly=True, samesite="strict")


def renew(request: Request, token: str, seconds: int) -> None:
    """Let this request's answer, whatever it is, put another token in the old one's place."""
    carrier = Response()
    put(carrier, token, seconds)
    request.state.renewed_cookie = carrier.headers["set-cookie"]


class Renewal:
    """Adds the renewed cookie to an answer that does not set it itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def renewed(message: Message) -> None:
            cookie = scope.get("state", {}).get("renewed_cookie")
            if cookie and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "set-cookie" not in headers:
                    headers.append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, renewed)
