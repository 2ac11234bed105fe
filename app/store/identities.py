"""Who of a provider's people is who of ours; said by an administrator or at a first sign-in, never by a like name."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from app.store import passwords, sessions, users
from app.store.users import Role, User


@dataclass(frozen=True)
class Known:
    """The user as whom a provider's person signs in."""

    user: User
    disabled: bool
    generation: int


@dataclass(frozen=True)
class Applied:
    """What became of a role that the provider's groups ask for."""

    known: Known
    changed: bool
    kept: bool
    """The last administrator with a password stays one."""


def find(connection: Connection, issuer: str, subject: str) -> Known | None:
    """The user with this identity, disabled or not."""
    row = connection.execute(
        text(
            "select u.id, u.name, u.role, u.disabled, u.token_generation from identities i"
            " join users u on u.id = i.user_id where i.issuer = :issuer and i.subject = :subject"
        ),
        {"issuer": issuer, "subject": subject},
    ).one_or_none()
    return Known(users.of_row(row), row.disabled, row.token_generation) if row else None


def belongs(connection: Connection, issuer: str, user_id: UUID) -> bool:
    """Whether the user may sign in at this provider."""
    statement = text("select exists (select from identities where issuer = :issuer and user_id = :user)")
    return bool(connection.execute(statement, {"issuer": issuer, "user": user_id}).scalar_one())


def link(connection: Connection, issuer: str, subject: str, user_id: UUID) -> bool:
    """Let the provider's person sign in as the user; True also when it was so. False: one of the two is another's."""
    parameters = {"issuer": issuer, "subject": subject, "user": user_id}
    connection.execute(
        text(
            "insert into identities (issuer, subject, user_id) values (:issuer, :subject, :user) on conflict do nothing"
        ),
        parameters,
    )
    statement = text(
        "select exists (select from identities where issuer = :issuer and subject = :subject and user_id = :user)"
    )
    return bool(connection.execute(statement, parameters).scalar_one())


def unlink(connection: Connection, issuer: str, user_id: UUID) -> None:
    """Let nobody of the provider's sign in as the user, whose sessions end; nothing happens when nobody might."""
    statement = text("delete from identities where issuer = :issuer and user_id = :user")
    if connection.execute(statement, {"issuer": issuer, "user": user_id}).rowcount:
        sessions.end_all(connection, user_id)


def create(connection: Connection, issuer: str, subject: str, new_id: UUID, name: str, role: Role) -> Known | None:
    """A new user for the provider's person; the one whom another sign-in has just made; None when the name is taken."""
    wanted = users.NewUser(new_id, name, passwords.NONE, role)
    if users.create(connection, wanted) and not link(connection, issuer, subject, new_id):
        users.delete(connection, new_id)
    return find(connection, issuer, subject)


def apply_role(connection: Connection, known: Known, role: Role) -> Applied:
    """Give the user the role; one that allows less ends all sessions, as a new one may then begin."""
    user = known.user
    if user.role == "admin" != role and users.is_last_with_password(connection, user.id):
        return Applied(known, changed=False, kept=True)
    generation = users.apply_role(connection, user.id, role)
    changed = User(user.id, user.name, role)
    return Applied(Known(changed, known.disabled, generation), changed=user.role != role, kept=False)
