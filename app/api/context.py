"""What a request needs, made once per process, and who is asking."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.api import tokens
from app.api.problems import Problem, not_found
from app.api.recorder import Recorder
from app.index.vectors import Vectors
from app.inference import InferencePool
from app.retrieve.search import Searcher
from app.retrieve.weights import Frequencies
from app.settings import Settings
from app.store import collections, documents, users
from app.store.collections import Collection
from app.store.database import Result, Work, reading
from app.store.documents import Document
from app.store.users import User

COOKIE = "__Host-rag"


@dataclass(frozen=True)
class Context:
    settings: Settings
    token_key: str
    replica: Engine
    primary: Engine
    vectors: Vectors
    inference: InferencePool
    recorder: Recorder
    frequencies: Frequencies = field(default_factory=Frequencies)
    sign_ins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @property
    def searcher(self) -> Searcher:
        candidates = self.settings.answering.candidates
        return Searcher(self.replica, self.vectors, self.inference, self.frequencies, candidates)

    def fresh(self, work: Work[Result]) -> Result:
        """Read what was just written, from the primary; without one, what a replica knows."""
        try:
            return reading(self.primary, work)
        except DBAPIError:
            return reading(self.replica, work)


def context(request: Request) -> Context:
    """The process's context."""
    made: Context = request.app.state.context
    return made


Here = Annotated[Context, Depends(context)]


def signed_in(request: Request, here: Here) -> User:
    """The user whose token came with the request; raise 401 otherwise."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        token = request.cookies.get(COOKIE, "")
    user_id = tokens.read(token, here.token_key, here.settings.domain)
    user = reading(here.replica, lambda connection: users.find(connection, user_id)) if user_id else None
    if user is None:
        raise Problem(401, "token = missing, expired or forged; one from POST /api/token", "sign in again")
    return user


Me = Annotated[User, Depends(signed_in)]


def administrator(me: Me) -> User:
    """The user, who must be an administrator."""
    if me.role != "admin":
        raise Problem(403, f"role = {me.role}; admin", "ask an administrator")
    return me


Admin = Annotated[User, Depends(administrator)]


def readable(here: Context, me: User, name: str, *, fresh: bool = False) -> Collection:
    """The collection, if the user may read it; a question reads it from a replica, management wants it fresh."""

    def work(connection: Connection) -> Collection | None:
        return collections.find(connection, me, name)

    found = here.fresh(work) if fresh else reading(here.replica, work)
    if found is None:
        raise not_found("collection", name)
    return found


def writable(here: Context, me: User, name: str) -> Collection:
    """The collection, if the user may write to it."""
    found = readable(here, me, name, fresh=True)
    if found.permission != "write":
        raise Problem(403, f"collection = {name}; write permission", "ask an administrator for a grant")
    return found


def document_of(here: Context, me: User, document_id: UUID, *, write: bool = False) -> Document:
    """The document, if the user may read (or write) its collection."""

    def work(connection: Connection) -> tuple[Document, Collection] | None:
        document = documents.find(connection, document_id)
        if document is None:
            return None
        visible = {collection.id: collection for collection in collections.visible(connection, me)}
        collection = visible.get(document.collection_id)
        return (document, collection) if collection else None

    # A replica knows all but the newest, and answers while there is no primary; writing wants to be sure.
    found = None if write else reading(here.replica, work)
    found = found or here.fresh(work)
    if found is None:
        raise not_found("document", document_id)
    document, collection = found
    if write and collection.permission != "write":
        raise Problem(403, f"collection = {collection.name}; write permission", "ask an administrator for a grant")
    return document
