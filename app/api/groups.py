"""Groups of people, as administrators make and fill them."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.context import Admin, By, Here, Name, NewId
from app.api.paging import After, Limit, Page, page, place_of
from app.api.problems import Problem, not_found
from app.api.users import known as known_user
from app.store import audit, groups
from app.store.groups import Group

router = APIRouter(prefix="/api/v1/groups", tags=["people"])


class NewGroup(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class GroupShown(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"name": "engineers", "members": ["ada", "grace"]}})
    name: str
    members: list[str] = Field(description="Their names, in order.")


@router.post("", status_code=201)
async def add_group(_: Admin, by: By, here: Here, new_id: NewId, wanted: NewGroup) -> GroupShown:
    """Make a group, still empty."""

    def work(connection: Connection) -> GroupShown:
        made = groups.create(connection, new_id, wanted.name)
        if made is None:
            raise Problem(409, f"name = {wanted.name}; one not taken yet", "choose another name")
        audit.note(connection, by, "group.create", f"groups/{made.name}")
        return _shown(connection, made)

    return await here.write(work)


@router.get("")
def list_groups(_: Admin, here: Here, after: After = "", limit: Limit = 100) -> Page[GroupShown]:
    """Every group by name, with its members."""
    place = place_of(after, 1) or ("",)
    found = here.fresh(lambda connection: groups.listed(connection, limit + 1, place[0]))
    return page(
        found, limit, lambda group: (group.name,), lambda group: GroupShown(name=group.name, members=group.members)
    )


@router.get("/{name}")
def show_group(_: Admin, here: Here, name: str) -> GroupShown:
    """The group with its members."""
    return here.fresh(lambda connection: _shown(connection, known(connection, name)))


@router.delete("/{name}", status_code=204)
async def delete_group(_: Admin, by: By, here: Here, name: str) -> None:
    """Remove the group; what was granted to it ends for its members."""
    found: list[Group] = []

    def work(connection: Connection) -> None:
        group = groups.find(connection, name)
        if group is None:
            # Gone when it was there before: an earlier try was committed.
            if found:
                return
            raise not_found("group", name)
        found.append(group)
        groups.delete(connection, group.id)
        audit.note(connection, by, "group.delete", f"groups/{name}")

    await here.write_everywhere(work)


@router.put("/{name}/members/{user}")
async def add_member(_: Admin, by: By, here: Here, name: str, user: str) -> GroupShown:
    """Let a person into the group, and so to all that is granted to it."""

    def work(connection: Connection) -> GroupShown:
        group = known(connection, name)
        groups.add(connection, group.id, known_user(connection, user).id)
        audit.note(connection, by, "group.add", f"groups/{name}", {"member": user})
        return _shown(connection, group)

    return await here.write(work)


@router.delete("/{name}/members/{user}", status_code=204)
async def remove_member(_: Admin, by: By, here: Here, name: str, user: str) -> None:
    """Take a person out of the group."""

    def work(connection: Connection) -> None:
        groups.remove(connection, known(connection, name).id, known_user(connection, user).id)
        audit.note(connection, by, "group.remove", f"groups/{name}", {"member": user})

    await here.write_everywhere(work)


def known(connection: Connection, name: str) -> Group:
    """The group of this name; raise 404 when there is none."""
    group = groups.find(connection, name)
    if group is None:
        raise not_found("group", name)
    return group


def _shown(connection: Connection, group: Group) -> GroupShown:
    return GroupShown(name=group.name, members=groups.members(connection, group.id))
