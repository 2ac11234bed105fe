"""People: their roles, their groups, and the hashes of their passwords."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.store import passwords
from app.store.database import shown_by_replicas

Role = Literal["admin", "editor", "reader"]

_LISTED = """
select u.id, u.name, u.role, u.disabled, u.created_at, array(
    select g.name from members m join groups g on g.id = m.group_id where m.user_id = u.id order by g.name
) as groups, array(
    select array[i.issuer, i.subject] from identities i where i.user_id = u.id order by i.issuer
) as identities from users u
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
    identities: list[tuple[str, str]]
    """Issuers with the subject as whom each knows the user."""


@dataclass(frozen=True)
class Account:
    """A user with the hash that a password must fit."""

    user: User
    password_hash: str
    generation: int


@dataclass(frozen=True)
class NewUser:
    """A user to add, with the id from which a repeated write knows its own work."""

    id: UUID
    name: str
    password_hash: str
    role: Role


def new(new_id: UUID, name: str, password: str, role: Role) -> NewUser:
    """A user to add; slow, since it hashes the password, so it belongs outside any transaction."""
    return NewUser(new_id, name, passwords.hashed(password), role)


def account(connection: Connection, name: str) -> Account | None:
    """The account of this name, unless disabled."""
    row = connection.execute(
        text("select id, name, role, password_hash, token_generation from users where name = :name and not disabled"),
        {"name": name},
    ).one_or_none()
    return Account(of_row(row), row.password_hash, row.token_generation) if row else None


def find_by_name(connection: Connection, name: str) -> User | None:
    """The user of this name, disabled or not."""
    row = connection.execute(text("select id, name, role from users where name = :name"), {"name": name}).one_or_none()
    return of_row(row) if row else None


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


def hold_administrators(connection: Connection) -> set[UUID]:
    """Those who may administer now, held until the transaction ends: one change of people at a time."""
    statement = text("select id from users where role = 'admin' and not disabled order by id for update")
    return set(connection.execute(statement).scalars())


def is_last_with_password(connection: Connection, user_id: UUID) -> bool:
    """Whether this is the last administrator who can sign in without a provider."""
    # Locked, so that two who leave at once do not each count on the other.
    rows = connection.execute(
        text(
            "select id from users where role = 'admin' and not disabled and password_hash <> :none"
            " order by id for update"
        ),
        {"none": passwords.NONE},
    )
    return [row.id for row in rows] == [user_id]


def set_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Give the user another password, which ends all sessions."""
    shown_by_replicas(connection)
    statement = text("update users set password_hash = :hash, token_generation = token_generation + 1 where id = :id")
    connection.execute(statement, {"id": user_id, "hash": password_hash})


def replace_password(connection: Connection, known: Account, password_hash: str) -> Account | None:
    """Give the user another password, which ends all sessions; an earlier try of the same counts as ours.

    None: it is no more the one known.
    """
    shown_by_replicas(connection)
    statement = text(
        "update users set password_hash = :new,"
        " token_generation = token_generation + case when password_hash = :known then 1 else 0 end"
        " where id = :id and password_hash in (:known, :new) returning token_generation"
    )
    parameters = {"id": known.user.id, "known": known.password_hash, "new": password_hash}
    generation = connection.execute(statement, parameters).scalar_one_or_none()
    return None if generation is None else Account(known.user, password_hash, generation)


def keep_better_hash(connection: Connection, known: Account, password_hash: str) -> None:
    """Keep another hash of the same password, unless it was changed meanwhile."""
    statement = text("update users set password_hash = :new where id = :id and password_hash = :known")
    connection.execute(statement, {"id": known.user.id, "known": known.password_hash, "new": password_hash})


def set_disabled(connection: Connection, user_id: UUID, disabled: bool) -> None:
    """Shut the user out, which ends all sessions and all API keys, or let the user in again."""
    shown_by_replicas(connection)
    statement = text(
        "update users set disabled = :disabled, token_generation = token_generation + cast(:disabled as int)"
        " where id = :id"
    )
    connection.execute(statement, {"id": user_id, "disabled": disabled})
    if disabled:
        # Whoever comes back makes new ones: what was shut out for a stolen key must not come back with it.
        connection.execute(text("delete from api_keys where user_id = :id"), {"id": user_id})


def set_role(connection: Connection, user_id: UUID, role: Role) -> None:
    """Let the user do what the role may, from the next request on."""
    shown_by_replicas(connection)
    connection.execute(text("update users set role = :role where id = :id"), {"id": user_id, "role": role})


def apply_role(connection: Connection, user_id: UUID, role: Role) -> int:
    """Give the user the role as of now, and tell the generation of a session that begins then: less ends the others."""
    shown_by_replicas(connection)
    statement = text(
        "update users set role = :role, token_generation = token_generation + case"
        " when array_position(cast(:ranks as text[]), role) > array_position(cast(:ranks as text[]), :role)"
        " then 1 else 0 end where id = :id returning token_generation"
    )
    parameters = {"id": user_id, "role": role, "ranks": ["reader", "editor", "admin"]}
    return int(connection.execute(statement, parameters).scalar_one())


def has_password(connection: Connection, user_id: UUID) -> bool:
    """Whether the user can sign in with a password."""
    statement = text("select exists (select from users where id = :id and password_hash <> :none)")
    return bool(connection.execute(statement, {"id": user_id, "none": passwords.NONE}).scalar_one())


def delete(connection: Connection, user_id: UUID) -> None:
    """Remove the user with their questions, memberships and grants; what they made for others stays."""
    shown_by_replicas(connection)
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
    identities = [(issuer, subject) for issuer, subject in row.identities]
    return Entry(of_row(row), row.disabled, row.created_at, list(row.groups), identities)


def of_row(row: Row[Any]) -> User:
    """The user of a row with ``id``, ``name`` and ``role``."""
    return User(row.id, row.name, role_of(row.role))


def role_of(written: str) -> Role:
    """The role as it stands in the table, where the program before the roles may still write 'user'."""
    return "editor" if written == "user" else cast("Role", written)
