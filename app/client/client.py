"""The platform's API, a method for each call; ``people`` and ``embedding`` have what administrators do."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from uuid import UUID

import httpx

from app.client.embedding import Embedding
from app.client.people import People
from app.client.results import (
    Answer,
    Asked,
    Collection,
    Conversation,
    Document,
    Event,
    Found,
    Health,
    Index,
    Indexes,
    Passage,
    Result,
    Tokens,
)
from app.client.transport import Problem, Transport, part

Kind = TypeVar("Kind", bound=Result)
Told = Callable[[int], None]
Filter = str | list[str]

# Between two looks at a document that is being indexed.
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 60.0


class Client:
    """The platform at ``url`` as one person, whose ``secret`` is an API key or a token.

    ``ca`` is a file with the site's authority, where the system does not know it. A request that is told to come back
    later (429, 503) is sent again for ``patience`` seconds, then raises Problem as any other refusal does; when nobody
    answers, UnreachableError.
    """

    def __init__(
        self, url: str, secret: str = "", *, ca: Path | None = None, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._transport = Transport(url, secret, ca, patience)
        self.people = People(self._transport)
        self.embedding = Embedding(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections up."""
        self._transport.close()

    @property
    def http(self) -> httpx.Client:
        """The connection itself, with the secret and without patience, for what has no method here."""
        return self._transport.http

    # --- collections

    def collections(self) -> Iterator[Collection]:
        """Those that one may read."""
        return self._transport.pages("/api/v1/collections", Collection)

    def collection(self, name: str) -> Collection:
        """One of them, with the number of its documents by state."""
        return self._one(Collection, "GET", f"/api/v1/collections/{part(name)}")

    def add_collection(self, name: str) -> Collection:
        """A new one, which its maker manages."""
        return self._one(Collection, "POST", "/api/v1/collections", json={"name": name})

    def delete_collection(self, name: str) -> None:
        """Take it away with all its documents."""
        self._transport.call("DELETE", f"/api/v1/collections/{part(name)}")

    # --- documents

    def upload(self, collection: str, name: str, content: bytes | BinaryIO, told: Told | None = None) -> Document:
        """Store a document, which is searchable some time later; ``told`` hears how far it got on, and back."""
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        sent = _Told(source, told) if told else source
        path = f"/api/v1/collections/{part(collection)}/documents"
        return self._one(Document, "POST", path, files={"file": (name, sent)})

    def documents(self, collection: str, state: str = "") -> Iterator[Document]:
        """The collection's documents by file name, all or those in one state."""
        path = f"/api/v1/collections/{part(collection)}/documents"
        return self._transport.pages(path, Document, **({"state": state} if state else {}))

    def document(self, document: UUID) -> Document:
        """The document as it is now."""
        return self._one(Document, "GET", f"/api/v1/documents/{document}")

    def follow(self, document: UUID, seconds: float = 600) -> Iterator[Document]:
        """The document each time it changed, until it is settled or the time is over."""
        deadline, before = time.monotonic() + seconds, None
        while True:
            now = self.document(document)
            if now != before:
                yield now
            if now.settled or time.monotonic() > deadline:
                return
            before = now
            time.sleep(LOOK_SECONDS)

    def retry(self, document: UUID) -> Document:
        """Have a failed document tried again."""
        return self._one(Document, "POST", f"/api/v1/documents/{document}/retry")

    def cancel(self, document: UUID) -> Document:
        """Stop the indexing of a document."""
        return self._one(Document, "POST", f"/api/v1/documents/{document}/cancel")

    def delete(self, document: UUID) -> None:
        """Take the document away."""
        self._transport.call("DELETE", f"/api/v1/documents/{document}")

    def source(self, document: UUID) -> bytes:
        """The bytes as they were uploaded."""
        return self._transport.call("GET", f"/api/v1/documents/{document}/source").content

    def passage(self, document: UUID, number: int) -> Passage:
        """What a citation quotes from."""
        return self._one(Passage, "GET", f"/api/v1/documents/{document}/passages/{number}")

    # --- search and answers

    def search(self, collection: str, words: str, limit: int = 10, **filters: Filter) -> Found:
        """The best passages; ``filters`` are document, media_type, since, until and mode."""
        params = {"collection": collection, "q": words, "limit": limit, **filters}
        return self._one(Found, "GET", "/api/v1/search", params=params)

    def ask(self, collection: str, question: str, **more: Filter) -> Answer:
        """The checked answer; ``more`` is a conversation, or filters as of a search."""
        asked = {"collection": collection, "question": question, **more}
        return self._one(Answer, "POST", "/api/v1/questions", json=asked)

    def stream(self, collection: str, question: str, **more: Filter) -> Iterator[Event]:
        """The answer as it is made; the last event brings the checked one. An error on the way raises Problem."""
        asked = {"collection": collection, "question": question, "stream": True, **more}
        with self._transport.open("POST", "/api/v1/questions", json=asked) as response:
            for event in _events(self._transport.lines(response)):
                if event.name == "error":
                    told = {name: str(event.data.get(name, "")) for name in ("detail", "help", "request_id")}
                    raise Problem(int(event.data.get("status", 500)), **told)
                yield event

    def questions(self) -> Iterator[Asked]:
        """One's own latest questions."""
        return self._transport.pages("/api/v1/questions", Asked)

    def conversations(self) -> Iterator[Conversation]:
        """One's own conversations, without their turns."""
        return self._transport.pages("/api/v1/conversations", Conversation)

    def conversation(self, conversation: UUID) -> Conversation:
        """One of them with its turns."""
        return self._one(Conversation, "GET", f"/api/v1/conversations/{conversation}")

    def delete_conversation(self, conversation: UUID) -> None:
        """Take a conversation away."""
        self._transport.call("DELETE", f"/api/v1/conversations/{conversation}")

    def give_feedback(self, question: UUID, verdict: str, comment: str | None = None) -> None:
        """Say whether an answer helped: ``up`` or ``down``."""
        said = {"verdict": verdict} | ({"comment": comment} if comment else {})
        self._transport.call("PUT", f"/api/v1/questions/{question}/feedback", json=said)

    def health(self) -> Health:
        """Whether the platform can answer questions, and which part of it is the reason if not."""
        return self._one(Health, "GET", "/health/ready", also=503)

    def indexes(self) -> tuple[Index, ...]:
        """How far the index of each app host is behind what was uploaded and deleted."""
        return self._one(Indexes, "GET", "/api/v1/indexes").items

    def _one(self, kind: type[Kind], method: str, path: str, **sent: Any) -> Kind:
        return self._transport.one(kind, method, path, **sent)


def sign_in(url: str, username: str, password: str, *, ca: Path | None = None) -> Tokens:
    """Name and password for tokens."""
    transport = Transport(url, "", ca, PATIENCE_SECONDS)
    try:
        return transport.one(Tokens, "POST", "/api/v1/token", json={"username": username, "password": password})
    finally:
        transport.close()


class _Told(io.RawIOBase):
    """A file that tells how its place moves."""

    def __init__(self, source: BinaryIO, told: Told) -> None:
        self._source, self._told = source, told

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._told(len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        before = self._source.tell()
        now = self._source.seek(offset, whence)
        self._told(now - before)
        return now

    def tell(self) -> int:
        return self._source.tell()


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events; a line that begins with a colon only keeps the connection alive."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Event(name=name, data=json.loads(line.removeprefix("data: ")))
