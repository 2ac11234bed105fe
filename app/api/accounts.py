"""Sign-in, users and grants."""

import asyncio
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.api import tokens
from app.api.context import Admin, Context, Here, Me, Name, NewId, context, found_in
from app.api.problems import Problem, not_found
from app.store import collections, users
from app.store.database import reading
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["people"])

SIGN_IN_WAIT_SECONDS = 5.0


class SignIn(BaseModel):
    username: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    password: str = Field(min_length=12, max_length=1000)
    role: Literal["admin", "user"] = "user"


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current: str = Field(max_length=1000)
    new: str = Field(min_length=12, max_length=1000)


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid")
    password: str | None = Field(default=None, min_length=12, max_length=1000)
    disabled: bool | None = None


class Grant(BaseModel):
    model_config = ConfigDict(extra="forbid")
    permission: Literal["read", "write"]


@router.post("/token")
async def sign_in(request: Request) -> dict[str, Any]:
    """Exchange name and password, as a form or as JSON, for a token."""
    here = context(request)
    as_json = request.headers.get("content-type", "").startswith("application/json")
    try:
        asked = SignIn.model_validate(await request.json() if as_json else dict(await request.form()))
    except (ValueError, RecursionError):
        raise Problem(422, "username, password = unset; both", "docs/api.md shows the request") from None
    user = await verified(here, asked.username, asked.password)
    seconds = here.settings.token_seconds
    token = tokens.issue(user.id, here.token_key, here.settings.domain, seconds)
    return {"access_token": token, "token_type": "bearer", "expires_in": seconds}


async def verified(here: Context, name: str, password: str) -> User:
    """The user whose password this is; raise 401 otherwise, and 429 when guesses come faster than they are checked."""
    # Each check costs 64 MiB and a core for a moment; a flood of guesses must not take both from questions.
    try:
        async with asyncio.timeout(SIGN_IN_WAIT_SECONDS):
            await here.sign_ins.acquire()
    except TimeoutError:
        metrics.SIGN_INS.labels("shed").inc()
        raise Problem(429, "sign-ins = too many at once; fewer", "try again in a moment", retry=True) from None
    try:
        known = await run_in_threadpool(reading, here.replica, lambda connection: users.account(connection, name))
        fits = await run_in_threadpool(users.fits, known, password)
    finally:
        here.sign_ins.release()
    metrics.SIGN_INS.labels("accepted" if fits else "refused").inc()
    if known is None or not fits:
        raise Problem(401, "username or password = wrong; a pair that fits", "ask an administrator for a new password")
    return known.user


@router.get("/me")
def who_am_i(me: Me) -> dict[str, Any]:
    """The signed-in user."""
    return {"id": str(me.id), "name": me.name, "role": me.role}


@router.put("/me/password")
async def change_password(me: Me, here: Here, wanted: NewPassword) -> dict[str, Any]:
    """Give oneself another password."""
    wrong = Problem(403, "current = wrong; your password", "ask an administrator for a new one")
    # The primary's, as for the write that follows: a replica may know an older one.
    known = await here.write(lambda connection: users.account(connection, me.name))
    if known is None or not await run_in_threadpool(users.fits, known, wanted.current):
        raise wrong
    replacement = await run_in_threadpool(users.hashed, wanted.new)
    if not await here.write(lambda connection: users.replace_password(connection, known, replacement)):
        raise wrong
    return who_am_i(me)


@router.post("/users", status_code=201)
async def add_user(_: Admin, here: Here, new_id: NewId, wanted: NewUser) -> dict[str, Any]:
    """Add a person."""
    new = await run_in_threadpool(users.new, new_id, wanted.name, wanted.password, wanted.role)
    made = await here.write(lambda connection: users.create(connection, new))
    if made is None:
        raise Problem(409, f"name = {wanted.name}; one not taken yet", "choose another name")
    return who_am_i(made)


@router.get("/users")
def list_users(_: Admin, here: Here) -> list[dict[str, Any]]:
    """Everybody, also those who may no longer sign in."""
    return [_shown(user) for user in here.fresh(users.everybody)]


@router.patch("/users/{name}")
async def change_user(me: Admin, here: Here, name: str, wanted: Change) -> dict[str, Any]:
    """Give a person another password, or shut them out at once, or let them in again."""
    if name == me.name and wanted.disabled:
        raise Problem(409, f"disabled = {name}; somebody else, you are signed in with it", "ask another administrator")
    password = None if wanted.password is None else await run_in_threadpool(users.hashed, wanted.password)

    def work(connection: Connection) -> dict[str, Any]:
        user = _known(connection, name)
        if password is not None:
            users.set_password(connection, user, password)
        if wanted.disabled is not None:
            users.set_disabled(connection, user, wanted.disabled)
        return _shown(users.everybody(connection, user)[0])

    return await here.write(work)


@router.put("/collections/{name}/grants/{user}")
async def grant(me: Admin, here: Here, name: str, user: str, wanted: Grant) -> dict[str, Any]:
    """Let a person read, or read and write."""

    def work(connection: Connection) -> None:
        collection = found_in(connection, me, name)
        collections.grant(connection, collection.id, _known(connection, user), wanted.permission)

    await here.write(work)
    return {"collection": name, "user": user, "permission": wanted.permission}


@router.delete("/collections/{name}/grants/{user}", status_code=204)
async def revoke(me: Admin, here: Here, name: str, user: str) -> None:
    """Take a person's access away."""

    def work(connection: Connection) -> None:
        collections.revoke(connection, found_in(connection, me, name).id, _known(connection, user))

    await here.write(work)


def _shown(user: Any) -> dict[str, Any]:
    return {"name": user.name, "role": user.role, "disabled": user.disabled}


def _known(connection: Connection, name: str) -> UUID:
    user = users.find_by_name(connection, name)
    if user is None:
        raise not_found("user", name)
    return user.id
