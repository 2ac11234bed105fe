"""What every page has in common: its layout, who may see it, and headers that let nothing run but our own files."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi.templating import Jinja2Templates
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.api.problems import Problem, not_found, translated
from app.store.users import User

STATIC = Path(__file__).parent / "static"

_TEMPLATES = Jinja2Templates(Path(__file__).parent / "templates")
_HEADERS = {
    # Nothing but our own files may run or style a page, and no script may turn text into markup, whatever a document
    # or an answer contains.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PageRoute(APIRoute):
    """A route whose problems are pages too, and that asks whoever is not signed in to do so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with its problems caught."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError:
                problem = not_found("page", request.url.path)
            except (Problem, DBAPIError, PoolTimeoutError) as error:
                problem = translated(error)
            if problem.status == 401:
                return RedirectResponse(f"/sign-in?next={quote(_address(request))}", 303)
            return shown(request, "problem.html", problem.status, problem=problem)

        return handled


class OwnFiles(StaticFiles):
    """Scripts and styles, about which the browser asks each time: after an upgrade it must not mix old and new ones."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file."""
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def shown(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """The page of this template; ``me``, where it is given, gets the navigation."""
    problem = values.get("problem")
    pause = {"Retry-After": str(problem.seconds)} if isinstance(problem, Problem) and problem.retry else {}
    return _TEMPLATES.TemplateResponse(request, template, values, status_code=status, headers=_HEADERS | pause)


def navigation(me: User) -> list[tuple[str, str]]:
    """Addresses and names of the pages that are for this person."""
    administration = [("/people", "People"), ("/audit", "Audit")] if me.role == "admin" else []
    return [("/", "Ask"), ("/collections", "Documents"), *administration, ("/status", "Health")]


def own_path(address: str) -> str:
    """The address if it lies on this site, else the first page: nobody may be sent elsewhere by a link to us."""
    lies_here = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if lies_here else "/"


def _sentence(text: str) -> str:
    """What a problem says, as a sentence on a page."""
    # The API tells programs which call helps; people have a page for it.
    text = text.replace("GET /health/ready", "the page Health").replace("GET /api/v1/collections", "the page Documents")
    return f"{text[:1].upper()}{text[1:]}."


def _address(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"


_TEMPLATES.env.globals["navigation"] = navigation
_TEMPLATES.env.filters["sentence"] = _sentence
