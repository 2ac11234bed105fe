"""Conversations: one person's questions that belong together, each understood by those before it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

_SELECT = """
select v.id, v.title, c.name as collection, v.created_at, v.changed_at
from conversations v left join collections c on c.id = v.collection_id
where v.user_id = :user and not v.deleted
"""


@dataclass(frozen=True)
class Conversation:
    id: UUID
    title: str
    # None once the collection is gone.
    collection: str | None
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Place:
    """Where a list of conversations goes on: behind the one changed then, of this id."""

    changed_at: datetime
    id: UUID


@dataclass(frozen=True)
class Known:
    """Whose a conversation is and what it is about, for the next question in it."""

    user_id: UUID
    collection_id: UUID
    deleted: bool


def of_user(connection: Connection, user_id: UUID, limit: int, after: Place | None = None) -> list[Conversation]:
    """The user's conversations, the last one asked in first, those behind ``after``."""
    behind = "and (v.changed_at, v.id) < (:changed_at, :id) " if after else ""
    parameters: dict[str, Any] = {"user": user_id, "limit": limit}
    if after:
        parameters |= {"changed_at": after.changed_at, "id": after.id}
    statement = f"{_SELECT} {behind}order by v.changed_at desc, v.id desc limit :limit"
    return [Conversation(**row._mapping) for row in connection.execute(text(statement), parameters)]


def find(connection: Connection, user_id: UUID, conversation_id: UUID) -> Conversation | None:
    """The conversation, if it is the user's."""
    row = connection.execute(text(f"{_SELECT} and v.id = :id"), {"user": user_id, "id": conversation_id}).one_or_none()
    return Conversation(**row._mapping) if row else None


def known(connection: Connection, conversation_id: UUID) -> Known | None:
    """What is on record of the conversation; None for a new one, or one whose first turn is not written yet."""
    statement = text("select user_id, collection_id, deleted from conversations where id = :id")
    row = connection.execute(statement, {"id": conversation_id}).one_or_none()
    return Known(**row._mapping) if row else None


def ending_in(connection: Connection, user_id: UUID, collection_id: UUID, question: str, answer: str) -> UUID | None:
    """The user's conversation whose latest turn this is, of the last hundred questions; None when there is none."""
    found: UUID | None = connection.execute(
        text(
            "select t.conversation_id from (select id, collection_id, question, answer, asked_at from questions"
            " where user_id = :user order by asked_at desc limit 100) q"
            " join turns t on t.question_id = q.id join conversations v on v.id = t.conversation_id"
            " where q.collection_id = :collection and q.question = :question and q.answer = :answer and not v.deleted"
            " order by q.asked_at desc limit 1"
        ),
        {"user": user_id, "collection": collection_id, "question": question, "answer": answer},
    ).scalar_one_or_none()
    return found


def delete(connection: Connection, user_id: UUID, conversation_id: UUID) -> bool:
    """Take the user's conversation away with all its words; False when there is none, True also a second time."""
    parameters = {"user": user_id, "id": conversation_id}
    held = connection.execute(
        text(
            "update conversations set deleted = true, title = '', changed_at = now()"
            " where id = :id and user_id = :user returning id"
        ),
        parameters,
    ).scalar_one_or_none()
    if held is None:
        return False
    connection.execute(
        text("delete from questions q using turns t where t.question_id = q.id and t.conversation_id = :id"),
        parameters,
    )
    return True
