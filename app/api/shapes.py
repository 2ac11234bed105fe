"""What answers and conversations look like from outside."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

_CITATION: dict[str, Any] = {
    "number": 1,
    "document_id": "0b9d8a36-2d2c-4b0a-a3f2-6c1d1c7e2f10",
    "passage": 3,
    "title": "Halden contract",
    "section": "Halden contract > Termination",
    "headings": ["Halden contract", "Termination"],
    "page": 2,
    "place": {"page": 2},
    "quote": "The notice period is 90 days.",
    "url": "/documents/0b9d8a36-2d2c-4b0a-a3f2-6c1d1c7e2f10/passages/3",
}
_ANSWER: dict[str, Any] = {
    "id": "7f1f5f0e-54c5-4f0e-9f6c-0f4b7a1d2c3e",
    "conversation": "7f1f5f0e-54c5-4f0e-9f6c-0f4b7a1d2c3e",
    "answer": "The notice period is 90 days [1].",
    "supported": True,
    "refused": False,
    "citations": [_CITATION],
    "unsupported": [],
    "model": "llama3.1:8b",
}
# Of a stream each event, as OpenAPI's readers take it.
EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "JSON."}},
    "required": ["data"],
}
# The answer's other form, for the API's own description.
EVENTS: dict[str, Any] = {
    "content": {
        "text/event-stream": {
            "schema": EVENT,
            "example": {"event": "token", "data": '{"text": "The"}'},
        }
    }
}


class Citation(BaseModel):
    """A passage's words that say what a sentence of the answer says."""

    # Where a passage stands is told by the passages' own part of the API.
    model_config = ConfigDict(extra="allow", json_schema_extra={"example": _CITATION})
    number: int = Field(description="As it stands in square brackets behind the sentence.")
    document_id: UUID
    passage: int = Field(description="The passage's number within its document.")
    title: str
    section: str
    page: int | None
    quote: str = Field(description="Verbatim from the passage.")
    url: str = Field(description="The page that shows the passage.")


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _ANSWER})
    id: UUID = Field(description="The question's, for feedback.")
    conversation: UUID = Field(description="To send with the next question that goes on from this one.")
    answer: str = Field(description="Supported sentences only, each with the number of its citation.")
    supported: bool
    refused: bool = Field(description="Nothing of what the model said is in the passages.")
    citations: list[Citation]
    unsupported: list[str] = Field(description="What the model said beyond that.")
    model: str


class Verdict(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"example": {"verdict": "down", "comment": "That was the old contract."}},
    )
    verdict: Literal["up", "down"]
    comment: str = Field(default="", max_length=2000, pattern=r"^[^\x00]*$")


class Feedback(BaseModel):
    verdict: Literal["up", "down"]
    comment: str
    given_at: datetime


class Closest(BaseModel):
    """A passage that a question without an answer came close to."""

    model_config = ConfigDict(extra="allow")
    document_id: UUID
    passage: int = Field(description="The passage's number within its document.")
    title: str
    section: str
    page: int | None
    url: str = Field(description="The page that shows the passage.")


class Turn(BaseModel):
    """A question of the past and its answer."""

    id: UUID
    conversation: UUID | None = Field(description="Null for a question from before there were conversations.")
    question: str
    answer: str
    supported: bool
    citations: list[Citation]
    closest: list[Closest] = Field(
        description="Where no passage supported an answer, those that were shown in its place and are still there."
    )
    closest_gone: int = Field(description="How many of those are not there any more, or no more for you.")
    asked_at: datetime
    feedback: Feedback | None


class Conversation(BaseModel):
    id: UUID
    title: str = Field(description="The first question's beginning.")
    collection: str | None = Field(description="Null once the collection is gone.")
    created_at: datetime
    changed_at: datetime = Field(description="When its last question was asked.")


class Talk(Conversation):
    """A conversation with its latest turns, the oldest of them first."""

    turns: list[Turn]
