"""Signing in and out with a browser: the token lies in a cookie that no script can read."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool

from app.api import cookie, tokens
from app.api.accounts import begun, end_session, verified
from app.api.context import Caller, Context, Here, actor, caller
from app.api.problems import Problem, translated
from app.store import identities
from app.web.page import PageRoute, own_path
from app.web.provider import form

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/sign-in")
def sign_in_page(
    request: Request,
    here: Here,
    next: str = "/",  # noqa: A002 - the address bar says it so
    out: bool = False,
) -> Response:
    """The form; ``out``: somebody has just signed out who may do so at the provider too."""
    return form(request, here, next=own_path(next), out=out)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    here: Here,
    username: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form()],
    next: Annotated[str, Form(max_length=2000)] = "/",  # noqa: A002
) -> Response:
    """Put the token where scripts cannot read it and other sites cannot send it."""
    try:
        account = await verified(here, actor(request, username), password[:1000])
    except Problem as problem:
        return form(request, here, problem.status, problem=problem, username=username, next=own_path(next))
    settings = here.settings
    token = tokens.access(begun(here, account), here.token_key, settings.domain, settings.token_seconds)
    answer = RedirectResponse(own_path(next), 303)
    cookie.put(answer, *token)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, here: Here) -> Response:
    """End the session everywhere; without a primary in this browser only, and say so."""
    answer: Response = RedirectResponse("/sign-in", 303)
    try:
        who = await run_in_threadpool(caller, request, here)
        if await run_in_threadpool(_of_the_provider, here, who):
            answer = RedirectResponse("/sign-in?out=true", 303)
        await end_session(here, actor(request, who.user.name), who)
    except (Problem, DBAPIError, PoolTimeoutError) as error:
        problem = translated(error)
        if problem.status != 401:
            said = Problem(problem.status, f"signed out in this browser only: {problem.error}", problem.help)
            answer = form(request, here, said.status, problem=said, next="/")
    cookie.take_away(answer)
    return answer


def _of_the_provider(here: Context, who: Caller) -> bool:
    """Whether the caller may be signed in at the provider too."""
    there = here.provider
    if there is None or not there.settings.provider_sign_out:
        return False
    issuer = there.settings.issuer
    return here.fresh(lambda connection: identities.belongs(connection, issuer, who.user.id))
