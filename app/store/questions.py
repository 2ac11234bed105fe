"""The record of what was asked and answered; written after the answer, when a primary is there to take it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, text

Verdict = Literal["up", "down"]

LONGEST_TITLE = 80

_ASKED = """
select q.id, t.conversation_id, coalesce(t.closest, '{}') as closest,
    q.collection_id, q.question, q.answer, q.supported, q.citations, q.asked_at,
    f.verdict, f.comment, f.given_at
from questions q left join turns t on t.question_id = q.id left join feedback f on f.question_id = q.id
"""

# Turns may arrive in another order than they were asked in; a deleted conversation takes none.
_BEGIN_OR_GO_ON = """
insert into conversations as known (id, user_id, collection_id, title, created_at, changed_at)
values (:conversation_id, :user_id, :collection_id, :title, :asked_at, :asked_at)
on conflict (id) do update set
    title = case when excluded.created_at < known.created_at then excluded.title else known.title end,
    created_at = least(known.created_at, excluded.created_at),
    changed_at = greatest(known.changed_at, excluded.changed_at)
where known.user_id = excluded.user_id and not known.deleted
returning id
"""


@dataclass(frozen=True)
class Question:
    id: UUID
    conversation_id: UUID
    user_id: UUID
    collection_id: UUID
    question: str
    answer: str
    supported: bool
    citations: list[dict[str, Any]]
    closest: list[str]
    model: str
    seconds: float
    asked_at: datetime


@dataclass(frozen=True)
class Feedback:
    verdict: Verdict
    comment: str
    given_at: datetime


@dataclass(frozen=True)
class Entry:
    """A question of the past, as its asker sees it; those from before conversations belong to none."""

    id: UUID
    conversation_id: UUID | None
    collection_id: UUID
    question: str
    answer: str
    supported: bool
    citations: list[dict[str, Any]]
    closest: list[str]
    asked_at: datetime
    feedback: Feedback | None


@dataclass(frozen=True)
class Place:
    """Where a list of questions goes on: behind the one asked then, of this id."""

    asked_at: datetime
    id: UUID


def record(connection: Connection, question: Question) -> None:
    """Keep the question and its conversation; a second time is no second row, so an unsure write may be repeated."""
    values = {**question.__dict__, "citations": json.dumps(question.citations), "title": _title(question.question)}
    if connection.execute(text(_BEGIN_OR_GO_ON), values).scalar_one_or_none() is None:
        return
    connection.execute(
        text(
            "insert into questions (id, user_id, collection_id, question, answer, supported, citations, model, seconds,"
            " asked_at) values (:id, :user_id, :collection_id, :question, :answer, :supported,"
            " cast(:citations as jsonb), :model, :seconds, :asked_at) on conflict (id) do nothing"
        ),
        values,
    )
    connection.execute(
        text(
            "insert into turns (question_id, conversation_id, closest) values (:id, :conversation_id, :closest)"
            " on conflict (question_id) do nothing"
        ),
        values,
    )


def of_user(connection: Connection, user_id: UUID, limit: int, after: Place | None = None) -> list[Entry]:
    """The user's questions, newest first, those before ``after``."""
    behind = "and (q.asked_at, q.id) < (:asked_at, :id) " if after else ""
    parameters: dict[str, Any] = {"user": user_id, "limit": limit}
    if after:
        parameters |= {"asked_at": after.asked_at, "id": after.id}
    statement = f"{_ASKED} where q.user_id = :user {behind}order by q.asked_at desc, q.id desc limit :limit"
    return [_entry(row) for row in connection.execute(text(statement), parameters)]


def of_conversation(connection: Connection, conversation_id: UUID, limit: int) -> list[Entry]:
    """The conversation's latest turns in the order in which they were asked."""
    statement = f"{_ASKED} where t.conversation_id = :id order by q.asked_at desc, q.id desc limit :limit"
    rows = connection.execute(text(statement), {"id": conversation_id, "limit": limit})
    return [_entry(row) for row in rows][::-1]


def judge(connection: Connection, user_id: UUID, question_id: UUID, verdict: Verdict, comment: str) -> Feedback | None:
    """Keep what the asker thinks of the answer, in the place of what was thought before; None: not the user's."""
    row = connection.execute(
        text(
            "insert into feedback (question_id, verdict, comment)"
            " select id, :verdict, :comment from questions where id = :id and user_id = :user"
            " on conflict (question_id) do update set verdict = excluded.verdict, comment = excluded.comment,"
            " given_at = now() returning verdict, comment, given_at"
        ),
        {"id": question_id, "user": user_id, "verdict": verdict, "comment": comment},
    ).one_or_none()
    return Feedback(row.verdict, row.comment, row.given_at) if row else None


def _title(question: str) -> str:
    """The question's beginning, cut between words."""
    line = " ".join(question.split())
    if len(line) <= LONGEST_TITLE:
        return line
    return line[: LONGEST_TITLE - 1].rsplit(" ", 1)[0] + "…"


def _entry(row: Row[Any]) -> Entry:
    feedback = Feedback(row.verdict, row.comment, row.given_at) if row.verdict else None
    return Entry(
        id=row.id,
        conversation_id=row.conversation_id,
        collection_id=row.collection_id,
        question=row.question,
        answer=row.answer,
        supported=row.supported,
        citations=row.citations,
        closest=list(row.closest),
        asked_at=row.asked_at,
        feedback=feedback,
    )
