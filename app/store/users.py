"""People: their password hashes, roles, and what they may see."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, text

Role = Literal["admin", "user"]

_HASHER = PasswordHasher()
# An unknown name must cost as long as a wrong password, else names can be told apart by the clock.
_NOBODY = _HASHER.hash("nobody has this password")


@dataclass(frozen=True)
class User:
    id: UUID
    name: str
    role: Role


def verify(connection: Connection, name: str, password: str) -> User | None:
    """The user whose password this is, or None, after the same time either way."""
    row = connection.execute(
        text("select id, name, role, password_hash from users where name = :name and not disabled"), {"name": name}
    ).one_or_none()
    # The connection goes back before the slow hash, so that sign-ins cannot drain the pool.
    connection.close()
    try:
        _HASHER.verify(row.password_hash if row else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return None
    return User(row.id, row.name, row.role) if row else None


def find(connection: Connection, user_id: UUID) -> User | None:
    """The user with this id, unless disabled."""
    statement = text("select id, name, role from users where id = :id and not disabled")
    row = connection.execute(statement, {"id": user_id}).one_or_none()
    return User(row.id, row.name, row.role) if row else None


def find_by_name(connection: Connection, name: str) -> User | None:
    """The user of this name, disabled or not."""
    row = connection.execute(text("select id, name, role from users where name = :name"), {"name": name}).one_or_none()
    return User(row.id, row.name, row.role) if row else None


def create(connection: Connection, name: str, password: str, role: Role) -> User | None:
    """A new user, or None when the name is taken."""
    row = connection.execute(
        text(
            "insert into users (name, password_hash, role) values (:name, :hash, :role)"
            " on conflict (name) do nothing returning id, name, role"
        ),
        {"name": name, "hash": _HASHER.hash(password), "role": role},
    ).one_or_none()
    return User(row.id, row.name, row.role) if row else None


def set_password(connection: Connection, user_id: UUID, password: str) -> None:
    """Give the user another password; tokens already handed out live on for their hour."""
    statement = text("update users set password_hash = :hash where id = :id")
    connection.execute(statement, {"id": user_id, "hash": _HASHER.hash(password)})


def set_disabled(connection: Connection, user_id: UUID, disabled: bool) -> None:
    """Shut the user out, whose tokens end with it, or let the user in again."""
    connection.execute(
        text("update users set disabled = :disabled where id = :id"), {"id": user_id, "disabled": disabled}
    )


def everybody(connection: Connection) -> list[Row[Any]]:
    """Name, role and ``disabled`` of every user, by name."""
    return list(connection.execute(text("select name, role, disabled from users order by name")))


def ensure_admin(connection: Connection, name: str, password: str) -> bool:
    """Make the first administrator; True when there was none. A password changed since then is kept."""
    if find_by_name(connection, name):
        return False
    return create(connection, name, password, "admin") is not None
