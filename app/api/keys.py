"""API keys: one's own, and those of others for administrators."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import Connection

from app.api.context import Admin, By, Here, Me, NewId
from app.api.paging import After, Limit, Page, page, time_and_id
from app.api.problems import Problem, not_found
from app.api.users import known
from app.store import audit, keys
from app.store.audit import Actor
from app.store.keys import Scope, Sent

router = APIRouter(prefix="/api/v1", tags=["people"])

_EXAMPLE: dict[str, JsonValue] = {
    "id": "7d0c4f0e-0000-4000-8000-000000000001",
    "name": "nightly upload",
    "scopes": ["read", "write"],
    "expires_at": "2027-11-27T08:30:00Z",
    "created_at": "2026-11-27T08:30:00Z",
    "last_used_at": None,
}


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
    scopes: list[Scope] = Field(
        min_length=1, max_length=3, description="read: read, search, ask. write: change. admin: administer."
    )
    expires_in_days: int = Field(default=365, ge=1, le=3650)


class KeyShown(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE}, from_attributes=True)
    id: UUID
    name: str
    scopes: list[Scope]
    expires_at: datetime
    created_at: datetime
    last_used_at: datetime | None = Field(description="By the hour; null until it was used.")


class KeyMade(KeyShown):
    model_config = ConfigDict(json_schema_extra={"example": {**_EXAMPLE, "secret": "rag_7d0c…_…"}})
    secret: str = Field(description="What is sent as ``Authorization: Bearer``; it is told this once only.")


@router.post("/keys", status_code=201)
async def add_key(me: Me, by: By, here: Here, new_id: NewId, wanted: NewKey) -> KeyMade:
    """Make a key with which a program acts in one's name."""
    if "admin" in wanted.scopes and me.role != "admin":
        raise Problem(403, f"scopes = admin, role = {me.role}; the role admin", "leave the scope admin out")
    secret = keys.new_secret(new_id, here.token_key)
    sent = Sent(new_id, keys.hashed(secret))
    lives = timedelta(days=wanted.expires_in_days)
    scopes = sorted(set(wanted.scopes))

    def work(connection: Connection) -> KeyMade:
        made = keys.create(connection, me, sent, wanted.name, scopes, lives)
        if made is None:
            told = "Idempotency-Key = of a key that was made before, whose secret is told once; one of its own"
            raise Problem(409, told, "DELETE /api/v1/keys/{id} if its secret is lost, and make another")
        audit.note(connection, by, "key.create", f"keys/{made.id}", {"name": made.name, "scopes": scopes})
        shown: dict[str, Any] = KeyShown.model_validate(made).model_dump()
        return KeyMade(**shown, secret=keys.written(made.id, secret))

    return await here.write(work)


@router.get("/keys")
def list_keys(me: Me, here: Here, after: After = "", limit: Limit = 100) -> Page[KeyShown]:
    """One's own keys, oldest first."""
    return _listed(here, me.id, after, limit)


@router.delete("/keys/{key_id}", status_code=204)
async def revoke_key(me: Me, by: By, here: Here, key_id: UUID) -> None:
    """End one of one's own keys at once."""
    await _revoke(here, by, key_id, lambda _: me.id)


@router.get("/users/{name}/keys")
def list_keys_of(_: Admin, here: Here, name: str, after: After = "", limit: Limit = 100) -> Page[KeyShown]:
    """A person's keys, oldest first."""
    user = here.fresh(lambda connection: known(connection, name))
    return _listed(here, user.id, after, limit)


@router.delete("/users/{name}/keys/{key_id}", status_code=204)
async def revoke_key_of(_: Admin, by: By, here: Here, name: str, key_id: UUID) -> None:
    """End one of a person's keys at once."""
    await _revoke(here, by, key_id, lambda connection: known(connection, name).id)


def _listed(here: Here, user_id: UUID, after: str, limit: int) -> Page[KeyShown]:
    place = time_and_id(after)
    found = here.fresh(lambda connection: keys.listed(connection, user_id, limit + 1, place))
    return page(found, limit, lambda key: (key.created_at.isoformat(), str(key.id)), KeyShown.model_validate)


async def _revoke(here: Here, by: Actor, key_id: UUID, owner: Callable[[Connection], UUID]) -> None:
    done: list[UUID] = []

    def work(connection: Connection) -> None:
        if not keys.revoke(connection, owner(connection), key_id):
            # Gone when it was there before: an earlier try was committed.
            if done:
                return
            raise not_found("key", key_id)
        done.append(key_id)
        audit.note(connection, by, "key.revoke", f"keys/{key_id}")

    await here.write_everywhere(work)
