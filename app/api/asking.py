"""From a question to its answer and record, for whichever API it came by."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app import metrics
from app.answer.ask import Event, ask
from app.answer.memory import Turn, retrieved_by
from app.api.context import Context
from app.api.problems import Problem, not_found
from app.inference import BusyError, InferenceUnavailableError
from app.retrieve.search import Wanted, search
from app.store import conversations, passages, questions
from app.store.audit import Actor
from app.store.collections import Collection
from app.store.database import reading
from app.store.matching import EVERYTHING, Only, Scope
from app.store.questions import Question
from app.store.users import User

# More than any memory has room for.
MOST_RECALLED = 50


@dataclass(frozen=True)
class Asking:
    """A question whose asker may ask it there, with what was said before it in its conversation."""

    id: UUID
    conversation_id: UUID
    me: User
    by: Actor
    where: Collection
    question: str
    earlier: tuple[Turn, ...]
    only: Only = EVERYTHING


@dataclass(frozen=True)
class Remembered:
    """A turn as the client knows it; ``id`` as the answer gave it."""

    id: UUID | None
    turn: Turn


def recalled(
    here: Context, me: User, where: Collection, conversation_id: UUID, previous: Sequence[Remembered]
) -> tuple[Turn, ...]:
    """The conversation's turns on record, then those that only the client has; raise 404 for another's conversation.

    A conversation that nobody has seen is a new one: its first turn may wait on another host for a primary.
    """

    def work(connection: Connection) -> list[questions.Entry]:
        known = conversations.known(connection, conversation_id)
        if known is None:
            return []
        if known.user_id != me.id or known.deleted:
            raise not_found("conversation", conversation_id, "conversations")
        if known.collection_id != where.id:
            needed = f"one of the collection {where.name}"
            raise Problem(422, f"conversation = {conversation_id}; {needed}", "leave it out to begin another one")
        return questions.of_conversation(connection, conversation_id, MOST_RECALLED)

    recorded = reading(here.replica, work)
    ids = {entry.id for entry in recorded}
    only_known_there = [one.turn for one in previous if one.id not in ids]
    return (*(Turn(entry.question, entry.answer) for entry in recorded), *only_known_there)


def going_on(here: Context, me: User, where: Collection, turn: Turn) -> UUID | None:
    """The conversation that ends in this turn, where a client sends words and no id; None when no one does."""
    return reading(
        here.replica,
        lambda connection: conversations.ending_in(connection, me.id, where.id, turn.question, turn.answer),
    )


async def answered(here: Context, asking: Asking) -> AsyncGenerator[Event]:
    """``waiting`` while every place is taken, then what ``ask`` tells; an answer given is an answer recorded.

    Whoever closes this before the end, while it waits, searches or answers, ends all of that; then nothing is recorded.
    """
    began = time.monotonic()
    outcome = "cancelled"
    try:
        if here.inference.all_taken:
            yield Event("waiting", {})
        # The turn comes first: who is turned away should not have cost a search.
        async with here.inference.turn(), aclosing(_events(here, asking, began)) as events:
            async for event in events:
                if event.name == "answer":
                    outcome = ""
                yield event
    except BusyError:
        outcome = "busy"
        raise
    except Exception:
        outcome = "failed"
        raise
    finally:
        if outcome:
            metrics.QUESTIONS.labels(outcome).inc()


async def _events(here: Context, asking: Asking, began: float) -> AsyncGenerator[Event]:
    settings = here.settings
    words = retrieved_by(asking.question, asking.earlier)
    scope = Scope((asking.where.id,), asking.only)
    found = await search(here.searcher, Wanted(scope, words, settings.answering.passages))
    if found.missing == "inference":
        raise InferenceUnavailableError(f"inference = {settings.inference.url}; a host that answers")
    answering = ask(settings, here.inference, asking.question, found, began, asking.earlier)
    shown: list[dict[str, Any]] = []
    async with aclosing(answering) as events:
        async for event in events:
            if event.name != "answer":
                shown = event.data.get("passages", shown)
                yield event
                continue
            record = _record(asking, event, shown, time.monotonic() - began)
            here.recorder.record(record, asking.by, asking.where.name)
            ids = {"id": str(asking.id), "conversation": str(asking.conversation_id)}
            yield Event("answer", ids | event.data, event.usage)


def _record(asking: Asking, event: Event, shown: list[dict[str, Any]], seconds: float) -> Question:
    closest = [] if event.data["supported"] else shown
    return Question(
        id=asking.id,
        conversation_id=asking.conversation_id,
        user_id=asking.me.id,
        collection_id=asking.where.id,
        question=asking.question,
        answer=event.data["answer"],
        supported=event.data["supported"],
        citations=event.data["citations"],
        closest=[passages.passage_id(UUID(one["document_id"]), one["passage"]) for one in closest],
        model=event.data["model"],
        seconds=seconds,
        asked_at=datetime.now(UTC),
    )


async def last(events: AsyncGenerator[Event]) -> Event:
    """The answer, for a caller who does not watch it being made."""
    async with aclosing(events):
        async for event in events:
            found = event
    return found
