"""Collections and who may read, write or manage them; decided here, in SQL, before anything is retrieved."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.store import grants
from app.store.grants import LEVELS, Permission
from app.store.users import User

# Of what a user was given, alone or in groups, the greatest counts; a reader only reads, whatever was given, and an
# administrator manages everything.
_ACCESS = f"""
with given as (
    select collection_id, {grants.LEVEL_OF_USER} as level from grants where user_id = :user
    union all
    select g.collection_id, {grants.LEVEL_OF_GROUP} from group_grants g join members m using (group_id)
    where m.user_id = :user
), greatest_given as (
    select collection_id, max(level) as level from given group by collection_id
)
select c.id, c.name, case :role when 'admin' then 3 when 'reader' then least(g.level, 1) else g.level end as level
from collections c left join greatest_given g on g.collection_id = c.id
where (:role = 'admin' or g.level is not null)
"""  # noqa: S608 - of our own words only


@dataclass(frozen=True)
class Collection:
    id: UUID
    name: str
    permission: Permission

    def may(self, needed: Permission) -> bool:
        """Whether the permission includes what is needed."""
        return LEVELS.index(self.permission) >= LEVELS.index(needed)


def visible(connection: Connection, user: User) -> list[Collection]:
    """Every collection the user may read, by name."""
    rows = connection.execute(text(_ACCESS + " order by c.name"), {"role": user.role, "user": user.id})
    return [_collection(row) for row in rows]


def find(connection: Connection, user: User, name: str) -> Collection | None:
    """The collection, if it exists and the user may read it; the caller cannot tell which of the two failed."""
    row = connection.execute(
        text(_ACCESS + " and c.name = :name"), {"role": user.role, "user": user.id, "name": name}
    ).one_or_none()
    return _collection(row) if row else None


def holding(connection: Connection, user: User, collection_id: UUID) -> Collection | None:
    """The same by the collection's id, as a document names it."""
    row = connection.execute(
        text(_ACCESS + " and c.id = :id"), {"role": user.role, "user": user.id, "id": collection_id}
    ).one_or_none()
    return _collection(row) if row else None


def create(connection: Connection, user: User, name: str, new_id: UUID) -> Collection | None:
    """A collection that its maker manages, made now or by an earlier try of it; None: name or id is taken."""
    made = connection.execute(
        text(
            "insert into collections (id, name, created_by) values (:id, :name, :user)"
            " on conflict do nothing returning id"
        ),
        {"id": new_id, "name": name, "user": user.id},
    ).scalar_one_or_none()
    if made:
        grants.give_user(connection, made, user.id, "manage")
        return Collection(made, name, "manage")
    known = text("select id from collections where name = :name and id = :id")
    holder = connection.execute(known, {"name": name, "id": new_id}).scalar_one_or_none()
    return Collection(new_id, name, "manage") if holder else None


def _collection(row: Row[Any]) -> Collection:
    return Collection(row.id, row.name, LEVELS[row.level - 1])
