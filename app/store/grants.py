"""Grants: what a person or a group may do with a collection."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

Permission = Literal["read", "write", "manage"]
Kind = Literal["group", "user"]

# In ascending order, each including the ones before it.
LEVELS: tuple[Permission, ...] = ("read", "write", "manage")

# A permission's number in that order, from 1. A manager's row says 'write', as the program before groups wrote it.
LEVEL_OF_USER = "case when permission = 'write' then 2 + manages::int else 1 end"
LEVEL_OF_GROUP = "case permission when 'manage' then 3 when 'write' then 2 else 1 end"


@dataclass(frozen=True)
class Grant:
    kind: Kind
    name: str
    permission: Permission


def listed(connection: Connection, collection_id: UUID, limit: int, after: tuple[str, str] = ("", "")) -> list[Grant]:
    """The collection's grants, groups before users, each by name; those behind ``after`` (kind and name)."""
    statement = text(
        f"""
        select kind, name, level from (
            select 'group' as kind, o.name, {LEVEL_OF_GROUP} as level
            from group_grants g join groups o on o.id = g.group_id where g.collection_id = :collection
            union all
            select 'user', u.name, {LEVEL_OF_USER}
            from grants g join users u on u.id = g.user_id where g.collection_id = :collection
        ) as given where (kind, name) > (:kind, :name) order by kind, name limit :limit
        """  # noqa: S608 - of our own words only
    )
    parameters = {"collection": collection_id, "kind": after[0], "name": after[1], "limit": limit}
    return [Grant(row.kind, row.name, LEVELS[row.level - 1]) for row in connection.execute(statement, parameters)]


def give_user(connection: Connection, collection_id: UUID, user_id: UUID, permission: Permission) -> None:
    """Let the user do this much with the collection, no more and no less."""
    connection.execute(
        text(
            "insert into grants (collection_id, user_id, permission, manages)"
            " values (:collection, :user, :permission, :manages) on conflict (collection_id, user_id)"
            " do update set permission = excluded.permission, manages = excluded.manages"
        ),
        {
            "collection": collection_id,
            "user": user_id,
            "permission": "read" if permission == "read" else "write",
            "manages": permission == "manage",
        },
    )


def give_group(connection: Connection, collection_id: UUID, group_id: UUID, permission: Permission) -> None:
    """Let the group's members do at least this much with the collection."""
    connection.execute(
        text(
            "insert into group_grants (collection_id, group_id, permission) values (:collection, :group, :permission)"
            " on conflict (collection_id, group_id) do update set permission = excluded.permission"
        ),
        {"collection": collection_id, "group": group_id, "permission": permission},
    )


def take_from_user(connection: Connection, collection_id: UUID, user_id: UUID) -> None:
    """Take the user's own access away; nothing happens when there was none."""
    statement = text("delete from grants where collection_id = :collection and user_id = :user")
    connection.execute(statement, {"collection": collection_id, "user": user_id})


def take_from_group(connection: Connection, collection_id: UUID, group_id: UUID) -> None:
    """Take the group's access away; nothing happens when there was none."""
    statement = text("delete from group_grants where collection_id = :collection and group_id = :group")
    connection.execute(statement, {"collection": collection_id, "group": group_id})
