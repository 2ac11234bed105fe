"""The same questions by the API that OpenAI's clients speak: a collection is a model, a chat's last words the question.

A stream brings the checked answer as a whole when it is there: what was once sent in it could not be taken back.
"""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from app.answer.ask import Event
from app.answer.memory import Turn
from app.api.asking import Asking, answered, going_on, last
from app.api.context import By, Context, Here, Me, NewId, readable
from app.api.limits import a_question
from app.api.problems import Problem, as_openai, translated
from app.api.search import MOST_CHARACTERS, Text
from app.api.shapes import EVENT, Citation
from app.api.streams import Stream, while_listening, with_heartbeats
from app.inference import Usage
from app.ingest.clean import clean
from app.store import collections
from app.store.audit import Actor
from app.store.collections import Collection
from app.store.users import User


class Failure(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str = Field(description="What stands there, what is needed, and the next step.")
    type: str
    param: str | None = None
    code: str | None = None


class Failed(BaseModel):
    """Every error body below this path."""

    error: Failure


EVENTS: dict[str, Any] = {
    "content": {
        "text/event-stream": {
            "schema": EVENT,
            "example": {"data": '{"object": "chat.completion.chunk", "choices": []}'},
        }
    }
}
_FAILED: dict[int | str, dict[str, Any]] = {
    status: {"model": Failed, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 413, 429, 500, 502, 503)
}

router = APIRouter(prefix="/v1", tags=["openai"], responses=_FAILED)

_TEXT: TypeAdapter[str] = TypeAdapter(Text)


class Part(BaseModel):
    """A piece of a message."""

    type: str
    text: str = ""


class Message(BaseModel):
    role: str = Field(description="user and assistant are read; the rules of the answer are the platform's own.")
    content: str | list[Part] | None = None

    @property
    def words(self) -> str:
        """The message's text; raise 422 where it has other things in it."""
        if not isinstance(self.content, list):
            return self.content or ""
        foreign = [part.type for part in self.content if part.type not in {"text", "input_text", "refusal"}]
        if foreign:
            raise Problem(422, f"messages.content.type = {foreign[0][:40]}; text", "leave out what is no text")
        return "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Chat(BaseModel):
    """A chat to be gone on with; whatever else a client sends is let pass, since the platform decides it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "manuals", "messages": [{"role": "user", "content": "How long is the notice period?"}]}
        }
    )
    model: str = Field(max_length=100, description="The collection that is asked.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class Model(BaseModel):
    id: str = Field(description="The collection's name.")
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "rag"


class Models(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"object": "list", "data": [Model(id="manuals").model_dump()]}}
    )
    object: Literal["list"] = "list"
    data: list[Model]


class Said(BaseModel):
    role: Literal["assistant"]
    content: str
    citations: list[Citation] = Field(description="What each number in square brackets stands for.")


class Choice(BaseModel):
    index: int
    message: Said
    logprobs: None
    finish_reason: Literal["stop", "length"]


class Counted(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    id: str = Field(description="chatcmpl- and the question's id, by which feedback can be given.")
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Counted


@router.get("/models")
def list_models(me: Me, here: Here) -> Models:
    """The collections that one may ask, as models."""
    found = here.fresh(lambda connection: collections.visible(connection, me))
    return Models(data=[Model(id=collection.name) for collection in found])


@router.get("/models/{name}")
def show_model(me: Me, here: Here, name: str) -> Model:
    """One of them."""
    return Model(id=_asked_of(here, me, name).name)


@router.post(
    "/chat/completions", response_model=Completion, responses={200: EVENTS}, dependencies=[Depends(a_question)]
)
async def complete(request: Request, me: Me, by: By, here: Here, new_id: NewId, chat: Chat) -> Response:
    """Answer the last message, with those before it in mind; ``citations`` lie beside the answer's ``content``."""
    events = answered(here, await run_in_threadpool(_asking, here, me, by, new_id, chat))
    reply = Reply(new_id, chat.model, int(time.time()))
    if chat.stream:
        with_usage = bool(chat.stream_options and chat.stream_options.include_usage)
        return Stream(with_heartbeats(_sent(events, reply, with_usage)))

    async def whole() -> Response:
        return JSONResponse(reply.whole(await last(events)))

    return await while_listening(request, whole())


def _asking(here: Context, me: User, by: Actor, new_id: UUID, chat: Chat) -> Asking:
    where = _asked_of(here, me, chat.model)
    earlier, question = _read(chat.messages)
    conversation = going_on(here, me, where, earlier[-1]) if earlier else None
    return Asking(new_id, conversation or new_id, me, by, where, question, tuple(earlier))


def _asked_of(here: Context, me: User, name: str) -> Collection:
    try:
        return readable(here, me, name)
    except Problem as problem:
        raise Problem(problem.status, f"model = {name}; a collection that you may read", "GET /v1/models") from None


def _read(messages: list[Message]) -> tuple[list[Turn], str]:
    """The turns so far and the question, which are the last words of the user."""
    spoken = [message for message in messages if message.role in {"user", "assistant"}]
    while spoken and spoken[-1].role != "user":
        spoken.pop()
    if not spoken:
        raise Problem(
            422, "messages = none of role user; the question as the last one", "docs/api.md shows the request"
        )
    turns: list[Turn] = []
    for message in spoken[:-1]:
        if message.role == "user":
            turns.append(Turn(_earlier(message.words), ""))
        elif turns:
            turns[-1] = Turn(turns[-1].question, _earlier(message.words))
    try:
        return turns, _TEXT.validate_python(spoken[-1].words.strip())
    except ValidationError as error:
        raise Problem(422, f"messages = {error.errors()[0]['msg']}", "ask a shorter question") from None


def _earlier(words: str) -> str:
    """What was said before, clean and no longer than a question: it only helps to understand the present one."""
    return clean(words[:MOST_CHARACTERS])


class Reply:
    """One completion in OpenAI's words, whole or in chunks."""

    def __init__(self, question_id: UUID, model: str, created: int) -> None:
        self._base = {"id": f"chatcmpl-{question_id}", "created": created, "model": model}

    def whole(self, answer: Event) -> dict[str, Any]:
        """The answer as one object."""
        message = {"role": "assistant", "content": answer.data["answer"], "citations": answer.data["citations"]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer.usage)}
        return {**self._base, "object": "chat.completion", "choices": [choice], "usage": _usage(answer.usage)}

    def chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        """A piece of it."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._base, "object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, answer: Event) -> dict[str, Any]:
        """The piece behind the last one, for who asked for it."""
        return {**self._base, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer.usage)}


async def _sent(events: AsyncGenerator[Event], reply: Reply, with_usage: bool) -> AsyncGenerator[str]:
    try:
        yield _written(reply.chunk({"role": "assistant", "content": ""}))
        async with aclosing(events):
            answer = await last(events)
        yield _written(reply.chunk({"content": answer.data["answer"]}))
        yield _written(reply.chunk({"citations": answer.data["citations"]}, _reason(answer.usage)))
        if with_usage:
            yield _written(reply.usage(answer))
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield _written(as_openai(translated(error)))


def _written(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _reason(usage: Usage | None) -> str:
    return "length" if usage and usage.reason == "length" else "stop"


def _usage(usage: Usage | None) -> dict[str, int]:
    prompt, answer = (usage.prompt or 0, usage.answer or 0) if usage else (0, 0)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
