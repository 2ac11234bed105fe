"""Collections and who may read or write them; access is decided here, in SQL, before anything is retrieved."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.users import User

Permission = Literal["read", "write"]

# An administrator may do everything everywhere; others what a grant says.
_ACCESS = """
select c.id, c.name, case when :role = 'admin' then 'write' else g.permission end as permission
from collections c left join grants g on g.collection_id = c.id and g.user_id = :user
where (:role = 'admin' or g.permission is not null)
"""


@dataclass(frozen=True)
class Collection:
    id: UUID
    name: str
    permission: Permission


def visible(connection: Connection, user: User) -> list[Collection]:
    """Every collection the user may read, by name."""
    rows = connection.execute(text(_ACCESS + " order by c.name"), {"role": user.role, "user": user.id})
    return [Collection(row.id, row.name, row.permission) for row in rows]


def find(connection: Connection, user: User, name: str) -> Collection | None:
    """The collection, if it exists and the user may read it; the caller cannot tell which of the two failed."""
    row = connection.execute(
        text(_ACCESS + " and c.name = :name"), {"role": user.role, "user": user.id, "name": name}
    ).one_or_none()
    return Collection(row.id, row.name, row.permission) if row else None


def holding(connection: Connection, user: User, collection_id: UUID) -> Collection | None:
    """The same by the collection's id, as a document names it."""
    row = connection.execute(
        text(_ACCESS + " and c.id = :id"), {"role": user.role, "user": user.id, "id": collection_id}
    ).one_or_none()
    return Collection(row.id, row.name, row.permission) if row else None


def create(connection: Connection, user: User, name: str, new_id: UUID) -> Collection | None:
    """A collection that its maker may write to, made now or by an earlier try of it; None: name or id is taken."""
    made = connection.execute(
        text(
            "insert into collections (id, name, created_by) values (:id, :name, :user)"
            " on conflict do nothing returning id"
        ),
        {"id": new_id, "name": name, "user": user.id},
    ).scalar_one_or_none()
    if made:
        grant(connection, made, user.id, "write")
        return Collection(made, name, "write")
    known = text("select id from collections where name = :name and id = :id")
    holder = connection.execute(known, {"name": name, "id": new_id}).scalar_one_or_none()
    return Collection(new_id, name, "write") if holder else None


def grant(connection: Connection, collection_id: UUID, user_id: UUID, permission: Permission) -> None:
    """Let the user read, or read and write."""
    connection.execute(
        text(
            "insert into grants (collection_id, user_id, permission) values (:collection, :user, :permission)"
            " on conflict (collection_id, user_id) do update set permission = excluded.permission"
        ),
        {"collection": collection_id, "user": user_id, "permission": permission},
    )


def revoke(connection: Connection, collection_id: UUID, user_id: UUID) -> None:
    """Take the user's access away; nothing happens when there was none."""
    connection.execute(
        text("delete from grants where collection_id = :collection and user_id = :user"),
        {"collection": collection_id, "user": user_id},
    )
