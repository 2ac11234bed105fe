"""Sessions that were ended: what no replica lists here is believed, so that signing in needs no primary."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.store import users
from app.store.database import shown_by_replicas
from app.store.users import User


@dataclass(frozen=True)
class Session:
    """A sign-in and all tokens that come of it; ``id`` is None in those of the program before sessions.

    ``generation`` is the user's at the sign-in: ending all of a user's sessions makes a new one.
    """

    id: UUID | None
    user_id: UUID
    generation: int
    ends: datetime


def user_of(connection: Connection, session: Session) -> User | None:
    """The session's user; None when the user is disabled or gone, or the session was ended."""
    row = connection.execute(
        text(
            "select id, name, role from users where id = :user and not disabled and token_generation <= :generation"
            " and not exists (select from ended_sessions where session_id = cast(:session as uuid))"
        ),
        {"user": session.user_id, "generation": session.generation, "session": session.id},
    ).one_or_none()
    return users.of_row(row) if row else None


def end(connection: Connection, session: Session) -> None:
    """Let none of the session's tokens be believed any more; of one without a number, none of its user's."""
    if session.id is None:
        end_all(connection, session.user_id)
        return
    shown_by_replicas(connection)
    connection.execute(
        text("insert into ended_sessions (session_id, until) values (:id, :until) on conflict do nothing"),
        {"id": session.id, "until": session.ends},
    )


def end_all(connection: Connection, user_id: UUID) -> None:
    """Let none of the user's tokens so far be believed any more."""
    shown_by_replicas(connection)
    statement = text("update users set token_generation = token_generation + 1 where id = :id")
    connection.execute(statement, {"id": user_id})


def spend(connection: Connection, number: UUID, until: datetime, by: UUID) -> bool:
    """Spend the refresh token of this number in the request ``by``; False when another one has spent it before."""
    parameters = {"number": number, "until": until, "by": by}
    connection.execute(
        text(
            "insert into spent_refresh_tokens (number, until, spent_by) values (:number, :until, :by)"
            " on conflict do nothing"
        ),
        parameters,
    )
    statement = text("select spent_by = :by from spent_refresh_tokens where number = :number")
    return bool(connection.execute(statement, parameters).scalar_one())


def forget(connection: Connection, most: int) -> int:
    """Take away what is about tokens that have expired by now, so many rows of a table at most; how many it were.

    An hour more than that, for clocks that differ.
    """
    gone = 0
    for table in ("ended_sessions", "spent_refresh_tokens"):
        old = f"select ctid from {table} where until < now() - interval '1 hour' limit :most"  # noqa: S608 - of these two
        statement = text(f"delete from {table} where ctid = any(array({old}))")  # noqa: S608 - of these two
        gone = max(gone, connection.execute(statement, {"most": most}).rowcount)
    return gone
