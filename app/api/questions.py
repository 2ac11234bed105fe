"""Questions and their answers."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.answer.ask import Event, ask
from app.api.context import By, Context, Here, Me, readable
from app.api.problems import described as described_problem
from app.api.problems import translated
from app.api.search import Text
from app.api.streams import with_heartbeats
from app.inference import BusyError, InferenceUnavailableError
from app.retrieve.search import Found, Wanted, search
from app.store import questions
from app.store.audit import Actor
from app.store.collections import Collection
from app.store.matching import Scope
from app.store.questions import Question
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["questions"])


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    collection: str = Field(max_length=100)
    question: Text
    stream: bool = False


@router.post("/questions")
async def question(me: Me, by: By, here: Here, asked: Asked) -> Response:
    """Answer from the collection, at once as JSON or as a stream of events."""
    began = time.monotonic()
    where = await run_in_threadpool(readable, here, me, asked.collection)
    here.asked(asked.question)
    async with AsyncExitStack() as stack:
        try:
            # The turn comes first: who is turned away should not have cost a search.
            await stack.enter_async_context(here.inference.turn())
            wanted = Wanted(Scope((where.id,)), asked.question, here.settings.answering.passages)
            found = await search(here.searcher, wanted)
            if found.missing == "inference":
                raise InferenceUnavailableError(f"inference = {here.settings.inference.url}; a host that answers")
            events = _recorded(here, me, by, where, asked, found, began)
            if asked.stream:
                # From here on the stream holds the turn, and lets it go however it ends.
                held = stack.pop_all()
                return _stream(with_heartbeats(_sent(events, held)))
            answer = [event async for event in events][-1].data
        except Exception as error:
            metrics.QUESTIONS.labels("busy" if isinstance(error, BusyError) else "failed").inc()
            raise
    return Response(json.dumps(answer), media_type="application/json")


@router.get("/questions")
def history(me: Me, here: Here, limit: int = 50) -> list[dict[str, Any]]:
    """One's own latest questions with their answers."""
    found = here.fresh(lambda connection: questions.of_user(connection, me.id, min(max(limit, 1), 500)))
    return [
        {
            "question": entry.question,
            "answer": entry.answer,
            "supported": entry.supported,
            "citations": entry.citations,
            "asked_at": entry.asked_at.isoformat(),
        }
        for entry in found
    ]


async def _recorded(
    here: Context, me: User, by: Actor, where: Collection, asked: Asked, found: Found, began: float
) -> AsyncIterator[Event]:
    async for event in ask(here.settings, here.inference, asked.question, found, began):
        if event.name == "answer":
            here.recorder.record(
                Question(
                    id=uuid4(),
                    user_id=me.id,
                    collection_id=where.id,
                    question=asked.question,
                    answer=event.data["answer"],
                    supported=event.data["supported"],
                    citations=event.data["citations"],
                    model=event.data["model"],
                    seconds=time.monotonic() - began,
                    asked_at=datetime.now(UTC),
                ),
                by,
                where.name,
            )
        yield event


async def _sent(events: AsyncIterator[Event], held: AsyncExitStack) -> AsyncIterator[str]:
    async with held:
        try:
            async for event in events:
                yield _written(event)
        except Exception as error:
            metrics.QUESTIONS.labels("failed").inc()
            yield _written(Event("error", described_problem(translated(error))))


def _written(event: Event) -> str:
    return f"event: {event.name}\ndata: {json.dumps(event.data)}\n\n"


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    # Proxies that gather a response before they pass it on would make the stream pointless.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)
