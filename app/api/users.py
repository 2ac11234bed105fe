"""People, as administrators add, change and remove them."""

from datetime import datetime
from typing import Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from app.api.context import Admin, By, Here, Name, NewId
from app.api.paging import After, Limit, Page, page, place_of
from app.api.problems import Problem, not_found
from app.store import audit, passwords, users
from app.store.users import Role, User

router = APIRouter(prefix="/api/v1/users", tags=["people"])


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    password: str = Field(min_length=12, max_length=1000)
    role: Role = Field(default="editor", description="A reader only reads, whatever is granted; an editor makes too.")


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid")
    password: str | None = Field(default=None, min_length=12, max_length=1000)
    disabled: bool | None = Field(default=None, description="Shut out at once, or let in again.")
    role: Role | None = None


class IdentityShown(BaseModel):
    issuer: str = Field(description="The provider.")
    subject: str = Field(description="What it calls the person, for good.")


class UserShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "7d0c4f0e-0000-4000-8000-000000000001",
                "name": "ada",
                "role": "editor",
                "disabled": False,
                "created_at": "2026-11-27T08:30:00Z",
                "groups": ["engineers"],
                "identities": [{"issuer": "https://id.example.org/realms/work", "subject": "248289761001"}],
            }
        }
    )
    id: UUID
    name: str
    role: Role
    disabled: bool = Field(description="May not sign in, and no token or key of theirs is taken.")
    created_at: datetime
    groups: list[str]
    identities: list[IdentityShown] = Field(description="As whom they sign in at a provider.")

    @classmethod
    def of(cls, entry: users.Entry) -> Self:
        return cls(
            id=entry.user.id,
            name=entry.user.name,
            role=entry.user.role,
            disabled=entry.disabled,
            created_at=entry.created_at,
            groups=entry.groups,
            identities=[IdentityShown(issuer=issuer, subject=subject) for issuer, subject in entry.identities],
        )


@router.post("", status_code=201)
async def add_user(_: Admin, by: By, here: Here, new_id: NewId, wanted: NewUser) -> UserShown:
    """Add a person."""
    new = await run_in_threadpool(users.new, new_id, wanted.name, wanted.password, wanted.role)

    def work(connection: Connection) -> UserShown:
        made = users.create(connection, new)
        if made is None:
            raise Problem(409, f"name = {wanted.name}; one not taken yet", "choose another name")
        audit.note(connection, by, "user.create", f"users/{made.name}", {"role": made.role})
        return UserShown.of(users.entry(connection, made.id))

    return await here.write(work)


@router.get("")
def list_users(_: Admin, here: Here, after: After = "", limit: Limit = 100) -> Page[UserShown]:
    """Everybody by name, also those who may no longer sign in."""
    place = place_of(after, 1) or ("",)
    found = here.fresh(lambda connection: users.listed(connection, limit + 1, place[0]))
    return page(found, limit, lambda entry: (entry.user.name,), UserShown.of)


@router.patch("/{name}")
async def change_user(me: Admin, by: By, here: Here, name: str, wanted: Change) -> UserShown:
    """Give a person another password or role, or shut them out at once, or let them in again."""
    if name == me.name and (wanted.disabled or wanted.role):
        raise _oneself(name)
    if name == me.name and wanted.password:
        # Whoever found an administrator's open browser or key must not make a sign-in of it.
        raise Problem(409, f"password = {name}'s; somebody else's, this is your own", "PUT /api/v1/me/password")
    password = None if wanted.password is None else await run_in_threadpool(passwords.hashed, wanted.password)

    def work(connection: Connection) -> UserShown:
        _still_administrator(connection, me)
        user = known(connection, name)
        if wanted.disabled or wanted.role not in {None, "admin"}:
            _not_the_last(connection, user)
        if password is not None:
            users.set_password(connection, user.id, password)
        if wanted.disabled is not None:
            users.set_disabled(connection, user.id, wanted.disabled)
        if wanted.role is not None:
            users.set_role(connection, user.id, wanted.role)
        # Of a password only that there is another one.
        detail = wanted.model_dump(exclude_none=True, exclude={"password"}) | (
            {"password": "another"} if password else {}
        )
        audit.note(connection, by, "user.change", f"users/{name}", detail)
        return UserShown.of(users.entry(connection, user.id))

    return await here.write_everywhere(work)


@router.delete("/{name}", status_code=204)
async def delete_user(me: Admin, by: By, here: Here, name: str) -> None:
    """Remove a person with their questions, keys, memberships and grants; what they made for others stays."""
    if name == me.name:
        raise _oneself(name)
    if name == here.settings.admin_user:
        needed = "another than the site's first administrator, whom the next deploy would bring back"
        raise Problem(409, f"name = {name}; {needed}", f"PATCH /api/v1/users/{name} with disabled")
    found: list[UUID] = []

    def work(connection: Connection) -> None:
        _still_administrator(connection, me)
        user = users.find_by_name(connection, name)
        if user is None:
            # Gone when they were there before: an earlier try was committed.
            if found:
                return
            raise not_found("user", name)
        found.append(user.id)
        _not_the_last(connection, user)
        users.delete(connection, user.id)
        audit.note(connection, by, "user.delete", f"users/{name}")

    await here.write_everywhere(work)


def _still_administrator(connection: Connection, me: User) -> None:
    # Two who take each other's role at the same moment would otherwise leave nobody to administer.
    if me.id not in users.hold_administrators(connection):
        raise Problem(403, "role = administrator no more; admin", "ask an administrator")


def _not_the_last(connection: Connection, user: User) -> None:
    # Who signs in at a provider administers for as long as that answers, and its groups say so.
    if users.is_last_with_password(connection, user.id):
        needed = "another administrator with a password first"
        raise Problem(
            409, f"name = {user.name}, the last administrator with a password; {needed}", "POST /api/v1/users"
        )


def known(connection: Connection, name: str) -> User:
    """The user of this name; raise 404 when there is none."""
    user = users.find_by_name(connection, name)
    if user is None:
        raise not_found("user", name)
    return user


def _oneself(name: str) -> Problem:
    return Problem(409, f"name = {name}; somebody else, you are signed in with it", "ask another administrator")
