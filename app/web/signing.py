"""Signing in and out with a browser: the token lies in a cookie that no script can read."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.api import tokens
from app.api.accounts import verified
from app.api.context import COOKIE, Here, actor
from app.api.problems import Problem
from app.web.page import PageRoute, own_path, shown

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:  # noqa: A002 - the address bar says it so
    """The form."""
    return shown(request, "sign-in.html", next=own_path(next))


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
        user = await verified(here, actor(request, username), password[:1000])
    except Problem as problem:
        values = {"problem": problem, "username": username, "next": own_path(next)}
        return shown(request, "sign-in.html", problem.status, **values)
    seconds = here.settings.token_seconds
    token = tokens.issue(user.id, here.token_key, here.settings.domain, seconds)
    answer = RedirectResponse(own_path(next), 303)
    answer.set_cookie(COOKIE, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget the token in this browser."""
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return answer
