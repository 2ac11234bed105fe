"""Sign-in, and what people do with their own account."""

from dataclasses import replace
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.api import cookie, tokens
from app.api.context import By, Caller, Context, Here, Me, Who, actor, context
from app.api.problems import Problem
from app.store import audit, groups, guesses, passwords, rates, refusals, sessions, users
from app.store.audit import Actor
from app.store.database import reading
from app.store.guesses import Source, Tally
from app.store.keys import Scope
from app.store.sessions import Session
from app.store.users import Account, Role, User

router = APIRouter(prefix="/api/v1", tags=["people"])


class SignIn(BaseModel):
    username: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class RefreshWanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    refresh_token: str = Field(max_length=4000)


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current: str = Field(max_length=1000)
    new: str = Field(min_length=12, max_length=1000)


class TokensShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "access_token": "eyJ…",
                "token_type": "bearer",
                "expires_in": 3600,
                "refresh_token": "eyJ…",
                "refresh_expires_in": 43200,
            }
        }
    )
    access_token: str = Field(description="Sent as ``Authorization: Bearer``.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - no password
    expires_in: int = Field(description="Seconds.")
    refresh_token: str = Field(description="Good for other tokens, once, until the session ends.")
    refresh_expires_in: int = Field(description="Seconds until the session ends and one signs in again.")


class MeShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "7d0c4f0e-0000-4000-8000-000000000001",
                "name": "ada",
                "role": "editor",
                "groups": ["engineers"],
                "key": None,
                "scopes": ["read", "write"],
            }
        }
    )
    id: UUID
    name: str
    role: Role
    groups: list[str]
    key: str | None = Field(description="The name of the API key that was sent; null after a sign-in.")
    scopes: list[Scope] = Field(description="What may be done this way, as far as the role and the grants allow it.")


_FORM_OR_JSON = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": SignIn.model_json_schema()}
            for kind in ("application/json", "application/x-www-form-urlencoded")
        },
    }
}


@router.post("/token", openapi_extra=_FORM_OR_JSON)
async def sign_in(request: Request) -> TokensShown:
    """Exchange name and password, as a form or as JSON, for tokens."""
    here = context(request)
    as_json = request.headers.get("content-type", "").startswith("application/json")
    try:
        asked = SignIn.model_validate(await request.json() if as_json else dict(await request.form()))
    except (ValueError, RecursionError):
        raise Problem(422, "username, password = unset; both", "docs/api.md shows the request") from None
    account = await verified(here, actor(request, asked.username), asked.password)
    return issued(here, begun(here, account))


@router.post("/token/refresh")
async def refresh(request: Request, here: Here, wanted: RefreshWanted) -> TokensShown:
    """Exchange a refresh token, which is then spent, for other tokens of the same session.

    One that was spent before was stolen from either who sends it now or who sent it then: the session ends.
    """
    read = tokens.read_refresh(wanted.refresh_token, here.token_key, here.settings.domain)
    refused = Problem(401, "refresh_token = expired, forged or spent; the latest", "sign in with POST /api/v1/token")
    if read is None:
        raise refused
    by = actor(request, "")

    def work(connection: Connection) -> User | None:
        user = sessions.user_of(connection, read.session)
        if user is None or sessions.spend(connection, read.number, read.session.ends, by.stamp):
            return user
        sessions.end(connection, read.session)
        audit.note(connection, replace(by, name=user.name), "session.stolen", f"sessions/{read.session.id}")
        return None

    if await here.write(work) is None:
        raise refused
    return issued(here, read.session)


@router.post("/sign-out", status_code=204)
async def sign_out(who: Who, by: By, here: Here) -> None:
    """End the session at every host, with its access tokens and its refresh token."""
    await end_session(here, by, who)


async def verified(here: Context, by: Actor, password: str, what: str = "sign-in") -> Account:
    """The account whose password this is; raise 401 otherwise, and 429 when guesses come too fast.

    ``what`` the password is shown for stands in the audit.
    """
    site = guesses.site(by.address)
    await here.rates.take(rates.place(site), "sign-ins")
    async with here.turns.turn(site):
        account = await run_in_threadpool(_checked, here, by, password, what)
    if account is None:
        raise Problem(401, "username or password = wrong; a pair that fits", "ask an administrator for a new password")
    return account


def _checked(here: Context, by: Actor, password: str, what: str) -> Account | None:
    """The account whose password this is, and None otherwise, after a pause when there were many wrong ones."""
    source = guesses.source(by.name, by.address)

    def work(connection: Connection) -> tuple[Tally, Account | None]:
        return guesses.tally(connection, source), users.account(connection, by.name)

    # The primary's, where there is one: a replica may not know yet that a password or a session was ended.
    tally, known = here.fresh(work)
    here.guard.let_through(source, tally)
    verdict = passwords.check(known.password_hash if known else None, password)
    metrics.SIGN_INS.labels("accepted" if verdict.fits else "refused").inc()
    if known is None or not verdict.fits:
        _refused(here, by, source, known, what)
        return None
    _accepted(here, by, source, tally, what)
    better = verdict.better_hash
    if better:
        here.later.write("better hash", lambda connection: users.keep_better_hash(connection, known, better))
    return known


def _refused(here: Context, by: Actor, source: Source, known: Account | None, what: str) -> None:
    # Where a name should stand, people type their password: only one that somebody has is written down.
    named = replace(by, name=known.user.name if known else "unknown")

    def noted(connection: Connection) -> None:
        refusals.note(connection, named, what)

    def counted(connection: Connection) -> None:
        guesses.count(connection, source, by.stamp)
        noted(connection)

    if not here.written_now(counted):
        here.guard.keep(source)
        here.later.write("sign-in", noted)


def _accepted(here: Context, by: Actor, source: Source, tally: Tally, what: str) -> None:
    here.guard.forgive(source)

    def noted(connection: Connection) -> None:
        guesses.forgive(connection, source)
        audit.note(connection, by, f"{what}.accepted", "token")

    # Whoever signs in does not wait for a primary, unless there is something to forgive.
    if not (tally.wrong and here.written_now(noted)):
        here.later.write("sign-in", noted)


async def shown_again(here: Context, by: Actor, password: str) -> Account:
    """The account of who is signed in, for the password; raise 403 when it is another's."""
    # As slow as a sign-in: who found an open browser must not guess faster than who stands before the door.
    try:
        return await verified(here, by, password, "password")
    except Problem as problem:
        raise _wrong() if problem.status == 401 else problem from None


def _wrong() -> Problem:
    return Problem(403, "current = wrong; your password", "ask an administrator for a new one")


def begun(here: Context, account: Account) -> Session:
    """A session for who has just shown the account's password."""
    return tokens.began(account.user.id, account.generation, here.settings.refresh_seconds)


def issued(here: Context, session: Session) -> TokensShown:
    """Tokens of the session."""
    key, domain = here.token_key, here.settings.domain
    access, seconds = tokens.access(session, key, domain, here.settings.token_seconds)
    again, left = tokens.refresh(session, key, domain)
    return TokensShown(access_token=access, expires_in=seconds, refresh_token=again, refresh_expires_in=left)


async def end_session(here: Context, by: Actor, who: Caller) -> None:
    """End the caller's session at every host."""
    session = who.session
    if session is None:
        raise Problem(403, "authorization = an API key, which has no session; a token", "DELETE /api/v1/keys/{id}")

    def work(connection: Connection) -> None:
        sessions.end(connection, session)
        audit.note(connection, by, "sign-out", f"sessions/{session.id}")

    await here.write_everywhere(work)


@router.get("/me")
def who_am_i(who: Who, here: Here) -> MeShown:
    """The signed-in user."""
    me, key = who.user, who.key
    joined = reading(here.replica, lambda connection: groups.of_user(connection, me.id))
    all_scopes: tuple[Scope, ...] = ("read", "write", "admin") if me.role == "admin" else ("read", "write")
    return MeShown(
        id=me.id,
        name=me.name,
        role=me.role,
        groups=joined,
        key=key.name if key else None,
        scopes=list(key.scopes if key else all_scopes),
    )


@router.put("/me/password")
async def change_password(request: Request, who: Who, by: By, here: Here, wanted: NewPassword) -> TokensShown:
    """Give oneself another password; all sessions end, and the answer begins a new one."""
    me = who.user
    known = await shown_again(here, by, wanted.current)
    replacement = await run_in_threadpool(passwords.hashed, wanted.new)

    def work(connection: Connection) -> Account:
        replaced = users.replace_password(connection, known, replacement)
        if replaced is None:
            raise _wrong()
        audit.note(connection, by, "password.change", f"users/{me.name}")
        return replaced

    answer = issued(here, begun(here, await here.write_everywhere(work)))
    if who.by_cookie:
        cookie.renew(request, answer.access_token, answer.expires_in)
    return answer


@router.delete("/me/sessions", status_code=204)
async def end_my_sessions(me: Me, by: By, here: Here) -> None:
    """End all of one's own sessions, this one too; API keys stay."""

    def work(connection: Connection) -> None:
        sessions.end_all(connection, me.id)
        audit.note(connection, by, "sessions.end", f"users/{me.name}")

    await here.write_everywhere(work)
