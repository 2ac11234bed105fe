"""Groups: people who are given access together."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Group:
    id: UUID
    name: str


@dataclass(frozen=True)
class Filled:
    """A group as a list shows it, with the names of its members in order."""

    name: str
    members: list[str]


def create(connection: Connection, new_id: UUID, name: str) -> Group | None:
    """The new group, made now or by an earlier try of the same; None when the name or the id is another's."""
    connection.execute(
        text("insert into groups (id, name) values (:id, :name) on conflict do nothing"), {"id": new_id, "name": name}
    )
    found = find(connection, name)
    return found if found and found.id == new_id else None


def find(connection: Connection, name: str) -> Group | None:
    """The group of this name."""
    row = connection.execute(text("select id, name from groups where name = :name"), {"name": name}).one_or_none()
    return Group(row.id, row.name) if row else None


def listed(connection: Connection, limit: int, after: str = "") -> list[Filled]:
    """Groups by name with their members, those behind ``after``."""
    statement = text(
        "select g.name, array(select u.name from members m join users u on u.id = m.user_id where m.group_id = g.id"
        " order by u.name) as members from groups g where g.name > :after order by g.name limit :limit"
    )
    rows = connection.execute(statement, {"after": after, "limit": limit})
    return [Filled(row.name, list(row.members)) for row in rows]


def members(connection: Connection, group_id: UUID) -> list[str]:
    """The names of the group's members, in order."""
    statement = text(
        "select u.name from members m join users u on u.id = m.user_id where m.group_id = :id order by u.name"
    )
    return list(connection.execute(statement, {"id": group_id}).scalars())


def of_user(connection: Connection, user_id: UUID) -> list[str]:
    """The names of the user's groups, in order."""
    statement = text(
        "select g.name from members m join groups g on g.id = m.group_id where m.user_id = :id order by g.name"
    )
    return list(connection.execute(statement, {"id": user_id}).scalars())


def add(connection: Connection, group_id: UUID, user_id: UUID) -> None:
    """Make the user a member; nothing happens to one who is."""
    statement = text("insert into members (group_id, user_id) values (:group, :user) on conflict do nothing")
    connection.execute(statement, {"group": group_id, "user": user_id})


def remove(connection: Connection, group_id: UUID, user_id: UUID) -> None:
    """End the user's membership; nothing happens when there was none."""
    statement = text("delete from members where group_id = :group and user_id = :user")
    connection.execute(statement, {"group": group_id, "user": user_id})


def delete(connection: Connection, group_id: UUID) -> None:
    """Remove the group with its memberships and grants."""
    connection.execute(text("delete from groups where id = :id"), {"id": group_id})
