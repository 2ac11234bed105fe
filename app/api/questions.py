"""Questions and their answers."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from app.answer.ask import Event
from app.answer.memory import Turn
from app.api.asking import Asking, Remembered, answered, last, recalled
from app.api.context import By, Context, Here, Me, NewId, readable
from app.api.limits import a_question
from app.api.problems import described as described_problem
from app.api.problems import translated
from app.api.search import Narrowed, Text
from app.api.shapes import EVENTS, Answer
from app.api.streams import Stream, while_listening, with_heartbeats
from app.store.audit import Actor
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["questions"])


class Previous(BaseModel):
    """A turn as the client knows it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    id: UUID | None = Field(default=None, description="As the answer gave it; a turn on record is not taken twice.")
    question: Text
    answer: Annotated[str, Field(max_length=20_000)]


class Asked(Narrowed):
    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"example": {"collection": "manuals", "question": "How long is the notice period?"}},
    )
    collection: str = Field(max_length=100)
    question: Text
    stream: bool = Field(default=False, description="Whether the answer comes as server-sent events.")
    conversation: UUID | None = Field(
        default=None, description="The ``conversation`` of the answer before; nothing begins another one."
    )
    previous: list[Previous] = Field(
        default=[],
        max_length=20,
        description="The conversation's last turns as the client shows them: those that no database has yet, as while"
        " it has no primary, are taken from here.",
    )


@router.post("/questions", response_model=Answer, responses={200: EVENTS}, dependencies=[Depends(a_question)])
async def question(request: Request, me: Me, by: By, here: Here, new_id: NewId, asked: Asked) -> Response:
    """Answer from the collection, at once as JSON or as a stream of events."""
    here.asked(asked.question)
    events = answered(here, await run_in_threadpool(_asking, here, me, by, new_id, asked))
    if asked.stream:
        return Stream(with_heartbeats(_sent(events, str(request.scope.get("request_id", "")))))

    async def whole() -> Response:
        return Response(json.dumps((await last(events)).data), media_type="application/json")

    return await while_listening(request, whole())


def _asking(here: Context, me: User, by: Actor, new_id: UUID, asked: Asked) -> Asking:
    where = readable(here, me, asked.collection)
    previous = [Remembered(one.id, Turn(one.question, one.answer)) for one in asked.previous]
    earlier = tuple(one.turn for one in previous)
    if asked.conversation:
        earlier = recalled(here, me, where, asked.conversation, previous)
    return Asking(new_id, asked.conversation or new_id, me, by, where, asked.question, earlier, asked.only())


async def _sent(events: AsyncGenerator[Event], request_id: str) -> AsyncGenerator[str]:
    try:
        async with aclosing(events):
            async for event in events:
                yield _written(event)
    except Exception as error:
        yield _written(Event("error", described_problem(translated(error), request_id)))


def _written(event: Event) -> str:
    return f"event: {event.name}\ndata: {json.dumps(event.data)}\n\n"
