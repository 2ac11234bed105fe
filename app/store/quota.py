"""How much of what lies here one person uploaded, and whether there is room for more."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Stored:
    """Documents of one person in all states, and their bytes as they were uploaded."""

    documents: int
    bytes: int


def stored(connection: Connection, user_id: UUID) -> Stored:
    """What the person has uploaded and is still there."""
    statement = text(
        "select count(*) as documents, coalesce(sum(size), 0) as bytes from documents where created_by = :user"
    )
    row = connection.execute(statement, {"user": user_id}).one()
    return Stored(row.documents, int(row.bytes))


def hold(connection: Connection, user_id: UUID) -> Stored:
    """The same; until the transaction ends nobody else adds to it."""
    statement = text("select pg_advisory_xact_lock(hashtextextended('quota ' || :user, 0))")
    connection.execute(statement, {"user": str(user_id)})
    return stored(connection, user_id)
