"""The record of what was asked and answered; written after the answer, when a primary is there to take it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Question:
    id: UUID
    user_id: UUID
    collection_id: UUID
    question: str
    answer: str
    supported: bool
    citations: list[dict[str, Any]]
    model: str
    seconds: float
    asked_at: datetime


def record(connection: Connection, question: Question) -> None:
    """Keep the question; a second time is no second row, so that an unsure write may be repeated."""
    connection.execute(
        text(
            "insert into questions (id, user_id, collection_id, question, answer, supported, citations, model, seconds,"
            " asked_at) values (:id, :user_id, :collection_id, :question, :answer, :supported,"
            " cast(:citations as jsonb), :model, :seconds, :asked_at) on conflict (id) do nothing"
        ),
        {**question.__dict__, "citations": json.dumps(question.citations)},
    )


def of_user(connection: Connection, user_id: UUID, limit: int) -> list[Question]:
    """The user's latest questions, newest first."""
    rows = connection.execute(
        text("select * from questions where user_id = :id order by asked_at desc limit :limit"),
        {"id": user_id, "limit": limit},
    )
    return [Question(**row._mapping) for row in rows]
