"""People: their password hashes, roles, and what they may see."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, text

Role = Literal["admin", "editor", "reader"]

_HASHER = PasswordHasher()
# An unknown name must cost as long as a wrong password, else names can be told apart by the clock. Written down, since
# making it would cost every start a quarter of a second; of what it is the hash, nobody knows any more.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$WpkRto4+XhABGWh3SmDNZA$7/B4/xIetD+dhfKHOL9C/Gn4FZJIdUwBC3d/OT3tMiA"


_LISTED = """
select u.id, u.name, u.role, u.disabled, u.created_at, array(
    select g.name from members m join groups g on g.id = m.group_id where m.user_id = u.id order by g.name
) as groups from users u
"""


@dataclass(frozen=True)
class User:
    id: UUID
    name: str
    role: Role


@dataclass(frozen=True)
class Entry:
    """A user as an administrator's list shows them."""

    user: User
    disabled: bool
    created_at: datetime
    groups: list[str]


@dataclass(frozen=True)
class Account:
    """A user with the hash that a password must fit."""

    user: User
    password_hash: str


@dataclass(frozen=True)
class NewUser:
    """A user to add, with the id from which a repeated write knows its own work."""

    id: UUID
    name: str
    password_hash: str
    role: Role


def new(new_id: UUID, name: str, password: str, role: Role) -> NewUser:
    """A user to add; slow, since it hashes the password, so it belongs outside any transaction."""
    return NewUser(new_id, name, hashed(password), role)


def hashed(password: str) -> str:
    """What is kept of a password; another one each time."""
    return _HASHER.hash(password)


def fits(account: Account | None, password: str) -> bool:
    """Whether it is the account's password; takes as long where there is none. Holds no connection: it is slow."""
    try:
        _HASHER.verify(account.password_hash if account else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return account is not None


def account(connection: Connection, name: str) -> Account | None:
    """The account of this name, unless disabled."""
    row = connection.execute(
        text("select id, name, role, password_hash from users where name = :name and not disabled"), {"name": name}
    ).one_or_none()
    return Account(_user(row), row.password_hash) if row else None


def find(connection: Connection, user_id: UUID) -> User | None:
    """The user with this id, unless disabled."""
    statement = text("select id, name, role from users where id = :id and not disabled")
    row = connection.execute(statement, {"id": user_id}).one_or_none()
    return _user(row) if row else None


def find_by_name(connection: Connection, name: str) -> User | None:
    """The user of this name, disabled or not."""
    row = connection.execute(text("select id, name, role from users where name = :name"), {"name": name}).one_or_none()
    return _user(row) if row else None


def create(connection: Connection, wanted: NewUser) -> User | None:
    """The new user, made now or by an earlier try of the same; None when the name or the id is another's."""
    connection.execute(
        text(
            "insert into users (id, name, password_hash, role) values (:id, :name, :hash, :role) on conflict do nothing"
        ),
        {"id": wanted.id, "name": wanted.name, "hash": wanted.password_hash, "role": wanted.role},
    )
    found = find_by_name(connection, wanted.name)
    return found if found and found.id == wanted.id else None


def set_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Give the user another password; tokens already handed out live on for their hour."""
    statement = text("update users set password_hash = :hash where id = :id")
    connection.execute(statement, {"id": user_id, "hash": password_hash})


def replace_password(connection: Connection, known: Account, password_hash: str) -> bool:
    """Give the user another password, unless it is no more the one known; an earlier try of the same counts as ours."""
    statement = text("update users set password_hash = :new where id = :id and password_hash in (:known, :new)")
    parameters = {"id": known.user.id, "known": known.password_hash, "new": password_hash}
    return connection.execute(statement, parameters).rowcount == 1


def set_disabled(connection: Connection, user_id: UUID, disabled: bool) -> None:
    """Shut the user out, whose tokens end with it, or let the user in again."""
    connection.execute(
        text("update users set disabled = :disabled where id = :id"), {"id": user_id, "disabled": disabled}
    )


def set_role(connection: Connection, user_id: UUID, role: Role) -> None:
    """Let the user do what the role may, from the next request on."""
    connection.execute(text("update users set role = :role where id = :id"), {"id": user_id, "role": role})


def delete(connection: Connection, user_id: UUID) -> None:
    """Remove the user with their questions, memberships and grants; what they made for others stays."""
    connection.execute(text("delete from questions where user_id = :id"), {"id": user_id})
    connection.execute(text("delete from users where id = :id"), {"id": user_id})


def listed(connection: Connection, limit: int, after: str = "") -> list[Entry]:
    """Everybody by name, also those shut out, behind ``after``."""
    statement = text(_LISTED + "where u.name > :after order by u.name limit :limit")
    return [_entry(row) for row in connection.execute(statement, {"after": after, "limit": limit})]


def entry(connection: Connection, user_id: UUID) -> Entry:
    """The same of one user, who must be there."""
    return _entry(connection.execute(text(_LISTED + "where u.id = :id"), {"id": user_id}).one())


def ensure_admin(connection: Connection, wanted: NewUser) -> bool:
    """Make the first administrator; True when there was none. A password changed since then is kept."""
    if find_by_name(connection, wanted.name):
        return False
    return create(connection, wanted) is not None


def _entry(row: Row[Any]) -> Entry:
    return Entry(_user(row), row.disabled, row.created_at, list(row.groups))


def _user(row: Row[Any]) -> User:
    # What the program before the roles wrote during a roll.
    return User(row.id, row.name, "editor" if row.role == "user" else row.role)
