"""What people and groups may do with a collection, as its managers say."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.context import By, Here, Me, found_in
from app.api.groups import known as known_group
from app.api.paging import After, Limit, Page, page, place_of
from app.api.users import known as known_user
from app.store import audit, grants
from app.store.grants import Grant, Kind, Permission

router = APIRouter(prefix="/api/v1/collections/{name}/grants", tags=["people"])


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    permission: Permission = Field(description="Each includes the ones before it: read, write, manage.")


class GrantShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"kind": "group", "name": "engineers", "permission": "write"}}
    )
    kind: Kind
    name: str = Field(description="Of the user or the group.")
    permission: Permission


@router.get("")
def list_grants(me: Me, here: Here, name: str, after: After = "", limit: Limit = 100) -> Page[GrantShown]:
    """Who was given what, groups first; for who manages the collection."""
    kind, given_name = place_of(after, 2) or ("", "")

    def work(connection: Connection) -> list[Grant]:
        collection = found_in(connection, me, name, manage=True)
        return grants.listed(connection, collection.id, limit + 1, (kind, given_name))

    return page(here.fresh(work), limit, lambda one: (one.kind, one.name), _shown)


@router.put("/users/{user}")
async def grant_user(me: Me, by: By, here: Here, name: str, user: str, wanted: Wanted) -> GrantShown:
    """Let a person read, or write too, or manage too."""

    def work(connection: Connection) -> GrantShown:
        collection = found_in(connection, me, name, manage=True)
        grants.give_user(connection, collection.id, known_user(connection, user).id, wanted.permission)
        given = {"to": f"users/{user}", "permission": wanted.permission}
        audit.note(connection, by, "grant.give", f"collections/{name}", given)
        return GrantShown(kind="user", name=user, permission=wanted.permission)

    return await here.write(work)


@router.delete("/users/{user}", status_code=204)
async def revoke_user(me: Me, by: By, here: Here, name: str, user: str) -> None:
    """Take a person's own access away; what a group has stays."""

    def work(connection: Connection) -> None:
        collection = found_in(connection, me, name, manage=True)
        grants.take_from_user(connection, collection.id, known_user(connection, user).id)
        audit.note(connection, by, "grant.take", f"collections/{name}", {"from": f"users/{user}"})

    await here.write_everywhere(work)


@router.put("/groups/{group}")
async def grant_group(me: Me, by: By, here: Here, name: str, group: str, wanted: Wanted) -> GrantShown:
    """Let everybody in the group read, or write too, or manage too."""

    def work(connection: Connection) -> GrantShown:
        collection = found_in(connection, me, name, manage=True)
        grants.give_group(connection, collection.id, known_group(connection, group).id, wanted.permission)
        given = {"to": f"groups/{group}", "permission": wanted.permission}
        audit.note(connection, by, "grant.give", f"collections/{name}", given)
        return GrantShown(kind="group", name=group, permission=wanted.permission)

    return await here.write(work)


@router.delete("/groups/{group}", status_code=204)
async def revoke_group(me: Me, by: By, here: Here, name: str, group: str) -> None:
    """Take the group's access away; what a member has alone stays."""

    def work(connection: Connection) -> None:
        collection = found_in(connection, me, name, manage=True)
        grants.take_from_group(connection, collection.id, known_group(connection, group).id)
        audit.note(connection, by, "grant.take", f"collections/{name}", {"from": f"groups/{group}"})

    await here.write_everywhere(work)


def _shown(grant: Grant) -> GrantShown:
    return GrantShown(kind=grant.kind, name=grant.name, permission=grant.permission)
