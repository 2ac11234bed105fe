"""Sign-in, the question box and the cited passage; everything else the pages do goes through the API."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from app.api import tokens
from app.api.accounts import verified
from app.api.context import COOKIE, Here, actor, document_of, signed_in
from app.api.problems import Problem, not_found
from app.store import collections, passages
from app.store.database import reading

STATIC = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)

_TEMPLATES = Jinja2Templates(Path(__file__).parent / "templates")
_HEADERS = {
    # Nothing but our own two files may run or style a page, whatever a document or an answer contains.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@router.get("/")
def ask(request: Request, here: Here) -> Response:
    """The question box with the collections one may ask."""
    try:
        me = signed_in(request, here)
    except Problem:
        return RedirectResponse("/sign-in", 303)
    known = here.fresh(lambda connection: collections.visible(connection, me))
    return _page(request, "ask.html", me=me, collections=known)


@router.get("/sign-in")
def sign_in_page(request: Request) -> Response:
    """The form."""
    return _page(request, "sign-in.html", error="")


@router.post("/sign-in")
async def sign_in(
    request: Request, here: Here, username: Annotated[str, Form(max_length=200)], password: Annotated[str, Form()]
) -> Response:
    """Put the token where scripts cannot read it and other sites cannot send it."""
    try:
        user = await verified(here, actor(request, username), password[:1000])
    except Problem as problem:
        return _page(request, "sign-in.html", status=problem.status, error=problem.error)
    seconds = here.settings.token_seconds
    token = tokens.issue(user.id, here.token_key, here.settings.domain, seconds)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, token, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget the token in this browser."""
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.get("/documents/{document_id}/passages/{ordinal}")
def passage(request: Request, here: Here, document_id: UUID, ordinal: int, quote: str = "") -> Response:
    """The cited passage with the quote marked."""
    try:
        me = signed_in(request, here)
    except Problem:
        return RedirectResponse("/sign-in", 303)
    document = document_of(here, me, document_id)
    found = reading(here.replica, lambda connection: passages.one(connection, document_id, ordinal))
    if found is None:
        raise not_found("passage", f"{document_id}/{ordinal}")
    before, marked, after = found.text.partition(quote) if quote else (found.text, "", "")
    return _page(
        request, "passage.html", me=me, document=document, passage=found, before=before, marked=marked, after=after
    )


def _page(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    return _TEMPLATES.TemplateResponse(request, template, values, status_code=status, headers=_HEADERS)
