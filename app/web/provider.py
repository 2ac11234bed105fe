"""Signing in at the site's provider: there with a try that lies in a cookie, and back with a code for a session."""

import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import metrics
from app.api import cookie, problems, tokens
from app.api.admission import admitted
from app.api.context import Context, Here, actor
from app.api.problems import Problem, translated
from app.oidc import attempt, hint
from app.oidc.provider import CodeRefusedError, Provider, ProviderSilentError
from app.oidc.token import TokenRefusedError
from app.store import guesses, rates
from app.web.page import own_path, shown

log = logging.getLogger(__name__)

router = APIRouter(tags=["people"])

Said = Annotated[str, Query(max_length=4000)]


@router.get("/sign-in/oidc", status_code=303, response_class=RedirectResponse)
async def go(request: Request, here: Here, next: Said = "/") -> Response:  # noqa: A002 - as on the form
    """Begin a sign-in at the site's provider, for a browser; ``next`` is the page of ours that it leads to."""

    async def away() -> Response:
        begun = attempt.begun(here.token_key, own_path(next))
        answer = RedirectResponse(await provider(here).begin(begun), 303)
        attempt.put(answer, begun, here.token_key, here.settings.domain)
        return answer

    return await _answered(request, here, own_path(next), away)


@router.get("/sign-in/oidc/callback", response_class=HTMLResponse)
async def come_back(
    request: Request, here: Here, code: Said = "", state: Said = "", error: Said = "", iss: Said = ""
) -> Response:
    """Where the provider sends the browser back to: a session for the code, in the browser's cookie."""
    begun = attempt.read(request.cookies.get(attempt.NAME, ""), here.token_key, here.settings.domain)
    next_path = own_path(begun.next) if begun else "/"

    async def signed_in() -> Response:
        there = provider(here)
        if begun is None or not hmac.compare_digest(state.encode(), begun.state.encode()):
            needed = "the one that this browser began within ten minutes"
            raise Problem(403, f"sign-in with {there.settings.label} = another's or too old; {needed}", "sign in again")
        if error:
            raise _declined(there, error)
        by = actor(request, "unknown")
        # Each asks the provider, whoever sends it.
        await here.rates.take(rates.place(guesses.site(by.address)), "sign-ins")
        who = await there.who(begun, code, iss)
        session = await admitted(here, there.settings, by, who)
        # A page, since no cookie that other sites cannot send comes with what the provider's page leads to at once.
        answer = shown(request, "signed-in.html", next=next_path)
        settings = here.settings
        cookie.put(answer, *tokens.access(session, here.token_key, settings.domain, settings.token_seconds))
        if there.settings.provider_sign_out:
            hint.put(answer, who.id_token, settings.refresh_seconds)
        return answer

    answer = await _answered(request, here, next_path, signed_in)
    attempt.take_away(answer)
    return answer


@router.get("/sign-out/oidc", status_code=303, response_class=RedirectResponse)
async def go_out(request: Request, here: Here) -> Response:
    """Go on to sign out at the provider, for a browser; here one has signed out before."""

    async def away() -> Response:
        there = provider(here)
        place = await there.end(hint.read(request)) if there.settings.provider_sign_out else ""
        if not place:
            needed = f"a sign-out of {there.settings.label}'s own"
            raise Problem(404, f"sign-out with {there.settings.label} = not there; {needed}", "close the browser")
        return RedirectResponse(place, 303)

    answer = await _answered(request, here, "/", away)
    hint.take_away(answer)
    return answer


def provider(here: Context) -> Provider:
    """The site's provider; raise 404 where it has none."""
    if here.provider is None:
        raise Problem(404, "sign-in with a provider = off; a provider", "sign in with name and password")
    return here.provider


async def _answered(
    request: Request, here: Context, next_path: str, work: Callable[[], Awaitable[Response]]
) -> Response:
    """What the work answers; a problem is told on the form, where one may sign in otherwise; to programs as ever."""
    try:
        return await work()
    except (Problem, DBAPIError, PoolTimeoutError) as error:
        problem = translated(error)
    except (ProviderSilentError, CodeRefusedError, TokenRefusedError) as error:
        problem = _of_provider(provider(here), error)
    if "text/html" not in request.headers.get("accept", ""):
        return problems.response(problem, str(request.scope.get("request_id", "")), request.url.path)
    return form(request, here, problem.status, problem=problem, next=next_path)


def form(request: Request, here: Context, status: int = 200, **values: object) -> HTMLResponse:
    """The page on which one signs in, with a password or at the provider."""
    there = here.provider
    return shown(request, "sign-in.html", status, provider=there.settings.label if there else "", **values)


def _of_provider(there: Provider, error: Exception) -> Problem:
    label = there.settings.label
    if isinstance(error, CodeRefusedError):
        return Problem(403, f"sign-in with {label} = spent or too old; a new one", "sign in again")
    metrics.SIGN_INS.labels("unreachable" if isinstance(error, ProviderSilentError) else "forged").inc()
    log.warning("oidc", extra={"reason": str(error)})
    if isinstance(error, ProviderSilentError):
        help_ = "sign in with name and password, or try again in a moment"
        return Problem(503, f"{label} = no answer that helps; the provider itself", help_, retry=True)
    needed = "one that is good, for this try and this platform"
    return Problem(403, f"token of {label} = not to be believed; {needed}", "tell the operator: journalctl -u rag-api")


def _declined(there: Provider, error: str) -> Problem:
    label = there.settings.label
    if error == "access_denied":
        return Problem(403, f"sign-in with {label} = given up there; one to its end", "sign in again")
    word = error if re.fullmatch("[a-z_]{1,60}", error) else "an error"
    return Problem(
        503, f"sign-in with {label} = {word}; a code", "tell the operator: journalctl -u rag-api", retry=True
    )
