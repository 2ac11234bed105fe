"""Sign-in, and what people do with their own account."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.api import tokens
from app.api.context import By, Context, Here, Me, actor, context
from app.api.problems import Problem
from app.store import audit, groups, users
from app.store.audit import Actor
from app.store.database import reading
from app.store.users import Role, User

router = APIRouter(prefix="/api/v1", tags=["people"])

SIGN_IN_WAIT_SECONDS = 5.0


class SignIn(BaseModel):
    username: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current: str = Field(max_length=1000)
    new: str = Field(min_length=12, max_length=1000)


class MeShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "7d0c4f0e-0000-4000-8000-000000000001",
                "name": "ada",
                "role": "editor",
                "groups": ["engineers"],
            }
        }
    )
    id: UUID
    name: str
    role: Role
    groups: list[str]


@router.post("/token")
async def sign_in(request: Request) -> dict[str, Any]:
    """Exchange name and password, as a form or as JSON, for a token."""
    here = context(request)
    as_json = request.headers.get("content-type", "").startswith("application/json")
    try:
        asked = SignIn.model_validate(await request.json() if as_json else dict(await request.form()))
    except (ValueError, RecursionError):
        raise Problem(422, "username, password = unset; both", "docs/api.md shows the request") from None
    user = await verified(here, actor(request, asked.username), asked.password)
    seconds = here.settings.token_seconds
    token = tokens.issue(user.id, here.token_key, here.settings.domain, seconds)
    return {"access_token": token, "token_type": "bearer", "expires_in": seconds}


async def verified(here: Context, by: Actor, password: str) -> User:
    """The user whose password this is; raise 401 otherwise, and 429 when guesses come faster than they are checked."""
    # Each check costs 64 MiB and a core for a moment; a flood of guesses must not take both from questions.
    try:
        async with asyncio.timeout(SIGN_IN_WAIT_SECONDS):
            await here.sign_ins.acquire()
    except TimeoutError:
        metrics.SIGN_INS.labels("shed").inc()
        raise Problem(429, "sign-ins = too many at once; fewer", "try again in a moment", retry=True) from None
    try:
        known = await run_in_threadpool(reading, here.replica, lambda connection: users.account(connection, by.name))
        fits = await run_in_threadpool(users.fits, known, password)
    finally:
        here.sign_ins.release()
    outcome = "accepted" if fits else "refused"
    metrics.SIGN_INS.labels(outcome).inc()
    # Who signs in must not wait for a primary. Where a name should stand, people type their password.
    named = replace(by, name=known.user.name if known else "unknown")
    here.later.write("sign-in", lambda connection: audit.note(connection, named, f"sign-in.{outcome}", "token"))
    if known is None or not fits:
        raise Problem(401, "username or password = wrong; a pair that fits", "ask an administrator for a new password")
    return known.user


@router.get("/me")
def who_am_i(me: Me, here: Here) -> MeShown:
    """The signed-in user."""
    joined = reading(here.replica, lambda connection: groups.of_user(connection, me.id))
    return MeShown(id=me.id, name=me.name, role=me.role, groups=joined)


@router.put("/me/password")
async def change_password(me: Me, by: By, here: Here, wanted: NewPassword) -> MeShown:
    """Give oneself another password."""
    wrong = Problem(403, "current = wrong; your password", "ask an administrator for a new one")
    # The primary's, as for the write that follows: a replica may know an older one.
    known = await here.write(lambda connection: users.account(connection, me.name))
    if known is None or not await run_in_threadpool(users.fits, known, wanted.current):
        raise wrong
    replacement = await run_in_threadpool(users.hashed, wanted.new)

    def work(connection: Connection) -> None:
        if not users.replace_password(connection, known, replacement):
            raise wrong
        audit.note(connection, by, "password.change", f"users/{me.name}")

    await here.write(work)
    return await run_in_threadpool(who_am_i, me, here)
