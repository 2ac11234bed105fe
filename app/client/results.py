"""What the API answers with; fields that a later platform adds are left out."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

# What becomes of a document without anybody's doing.
SETTLED = frozenset({"indexed", "failed", "cancelled"})


class Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tokens(Result):
    access_token: str
    expires_in: int
    refresh_token: str | None = None
    refresh_expires_in: int | None = None


class IndexOfHost(Result):
    host: str
    index: str


class Reembedding(Result):
    state: str
    served: str | None = None
    other: str | None = None
    passages: int = 0
    done: int = 0
    hosts: tuple[IndexOfHost, ...] = ()
    started_by: str | None = None
    started_at: datetime | None = None
    problem: str | None = None
    next: str = ""


class Me(Result):
    id: UUID
    name: str
    role: str
    groups: tuple[str, ...] = ()
    key: str | None = None
    scopes: tuple[str, ...] = ()


class Identity(Result):
    issuer: str
    subject: str


class User(Result):
    name: str
    role: str
    id: UUID | None = None
    disabled: bool = False
    created_at: datetime | None = None
    groups: tuple[str, ...] = ()
    identities: tuple[Identity, ...] = ()


class Group(Result):
    name: str
    members: tuple[str, ...] = ()


class Key(Result):
    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    secret: str | None = None


class Grant(Result):
    kind: Literal["user", "group"]
    name: str
    permission: str


class AuditEntry(Result):
    at: datetime
    actor: str | None
    action: str
    object: str | None
    detail: Any = None
    request_id: str | None = None
    key: str | None = None
    address: str | None = None


class Collection(Result):
    name: str
    permission: str
    documents: dict[str, int] = {}


class Progress(Result):
    done: int
    total: int


class Document(Result):
    id: UUID
    title: str
    file_name: str
    media_type: str
    sha256: str
    size: int
    state: str
    collection: str | None = None
    progress: Progress | None = None
    error: str | None = None
    passages: int = 0
    searchable_on: dict[str, bool] = {}
    created_at: datetime
    changed_at: datetime

    @property
    def settled(self) -> bool:
        """Whether the platform has done with it what it can."""
        return self.state in SETTLED


class Place(Result):
    """Where in its document a passage stands."""

    document_id: UUID
    passage: int
    title: str
    section: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    place: dict[str, Any] = {}
    url: str = ""


class Passage(Place):
    text: str


class AmongVectors(Result):
    """Where the passage stood among the nearest vectors."""

    rank: int
    distance: float


class AmongWords(Result):
    """Where the passage stood in the full text."""

    rank: int
    score: float


class Hit(Place):
    text: str
    score: float | None = None
    vector: AmongVectors | None = None
    lexical: AmongWords | None = None


class Found(Result):
    results: tuple[Hit, ...]
    degraded: str | None = None


class Citation(Place):
    number: int
    quote: str


class Answer(Result):
    answer: str
    supported: bool
    refused: bool
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...] = ()
    model: str | None = None
    id: UUID | None = None
    conversation: UUID | None = None


class Event(Result):
    """One event of a streamed answer: waiting, passages, token, restart, answer or error."""

    name: str
    data: dict[str, Any]

    @property
    def answer(self) -> Answer | None:
        """The checked answer, when this is the event that brings it."""
        return Answer.model_validate(self.data) if self.name == "answer" else None


class Feedback(Result):
    verdict: Literal["up", "down"]
    comment: str = ""


class Asked(Result):
    """A question of the past with its answer."""

    question: str
    answer: str
    supported: bool
    citations: tuple[Citation, ...] = ()
    closest: tuple[Place, ...] = ()
    closest_gone: int = 0
    asked_at: datetime
    id: UUID | None = None
    conversation: UUID | None = None
    feedback: Feedback | None = None


class Storage(Result):
    documents: int
    bytes: int
    most_documents: int | None
    most_bytes: int | None


class Conversation(Result):
    id: UUID
    title: str
    collection: str | None
    created_at: datetime
    changed_at: datetime
    turns: tuple[Asked, ...] = ()


class Health(Result):
    status: str
    parts: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class Index(Result):
    host: str
    behind: int
    since: datetime | None
    seen_at: datetime


class Indexes(Result):
    items: tuple[Index, ...]
