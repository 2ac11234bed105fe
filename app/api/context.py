"""What a request needs, made once per process, and who is asking."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import Depends, Header, Request
from pydantic import Field
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import log as logs
from app.api import tokens
from app.api.active import Active
from app.api.later import Later
from app.api.problems import Problem, not_found
from app.api.recorder import Recorder
from app.api.writers import Writers
from app.index.vectors import Vectors
from app.inference import InferencePool
from app.retrieve.search import Searcher
from app.retrieve.weights import Frequencies
from app.settings import Settings
from app.store import collections, documents, users
from app.store.audit import Actor
from app.store.collections import Collection
from app.store.database import Result, Work, passing, reading
from app.store.documents import Document
from app.store.grants import Permission
from app.store.users import User

log = logging.getLogger(__name__)

COOKIE = "__Host-rag"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]

# For so long nobody else looks for a primary that somebody just did not find.
MISSED_SECONDS = 2.0


@dataclass
class Missed:
    """Until when the primary counts as missing."""

    until: float = 0.0


@dataclass(frozen=True)
class Context:
    settings: Settings
    token_key: str
    replica: Engine
    primary: Engine
    writers: Writers
    vectors: Vectors
    inference: InferencePool
    recorder: Recorder
    later: Later
    active: Active
    frequencies: Frequencies = field(default_factory=Frequencies)
    missed: Missed = field(default_factory=Missed)
    sign_ins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @property
    def searcher(self) -> Searcher:
        candidates = self.settings.answering.candidates
        return Searcher(self.replica, self.vectors, self.inference, self.frequencies, candidates)

    def fresh(self, work: Work[Result]) -> Result:
        """Read what was just written, from the primary; without one, what a replica knows."""
        if time.monotonic() >= self.missed.until:
            try:
                return reading(self.primary, work, 0)
            except (DBAPIError, PoolTimeoutError) as error:
                if not passing(error):
                    raise
                self.missed.until = time.monotonic() + MISSED_SECONDS
        return reading(self.replica, work)

    async def write(self, work: Work[Result]) -> Result:
        """Write, and wait for a primary for as long as the settings allow; ``work`` may run more than once."""
        result = await self.writers.write(work)
        # What was written here is read here, however soon.
        self.missed.until = 0.0
        return result

    def asked(self, words: str) -> None:
        """Write down what somebody asks or searches for, where the site wants that."""
        if self.settings.logging.questions:
            log.info("asked", extra={"question": words})


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
        raise Problem(401, "token = missing, expired or forged; one from POST /api/v1/token", "sign in again")
    logs.add(user=str(user.id))
    here.active.note(user.id)
    return user


Me = Annotated[User, Depends(signed_in)]


def address(request: Request) -> str:
    """Where the client is; the balancer says so, who alone reaches us and lets nobody else say it."""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return (told or (request.client.host if request.client else ""))[:64]


def actor(request: Request, name: str) -> Actor:
    """Somebody of this name who acts in this request."""
    return Actor(name, str(request.scope.get("request_id", "")), address(request))


def acting(request: Request, me: Me) -> Actor:
    """Who acts, for the audit."""
    return actor(request, me.name)


By = Annotated[Actor, Depends(acting)]


def new_id(
    request: Request,
    me: Me,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="The same key with the same request again makes nothing new, and answers as at first.",
        ),
    ] = None,
) -> UUID:
    """The id of what this request makes; with an Idempotency-Key the same one each time the same person sends it."""
    if idempotency_key is None:
        return uuid4()
    return uuid5(NAMESPACE_URL, f"{me.id}\n{request.method} {request.url.path}\n{idempotency_key}")


NewId = Annotated[UUID, Depends(new_id)]


def administrator(me: Me) -> User:
    """The user, who must be an administrator."""
    if me.role != "admin":
        raise Problem(403, f"role = {me.role}; admin", "ask an administrator")
    return me


Admin = Annotated[User, Depends(administrator)]


def editor(me: Me) -> User:
    """The user, who must be more than a reader."""
    if me.role == "reader":
        raise Problem(403, "role = reader; editor", "ask an administrator")
    return me


Editor = Annotated[User, Depends(editor)]


def readable(here: Context, me: User, name: str, *, fresh: bool = False) -> Collection:
    """The collection, if the user may read it; a question reads it from a replica, management wants it fresh."""

    def work(connection: Connection) -> Collection | None:
        return collections.find(connection, me, name)

    found = here.fresh(work) if fresh else reading(here.replica, work)
    if found is None:
        raise not_found("collection", name)
    return found


def found_in(connection: Connection, me: User, name: str, *, write: bool = False, manage: bool = False) -> Collection:
    """The collection, if the user may read (or write to, or manage) it; for the transaction that then writes."""
    found = collections.find(connection, me, name)
    if found is None:
        raise not_found("collection", name)
    needed: Permission = "manage" if manage else "write" if write else "read"
    if not found.may(needed):
        raise Problem(403, f"collection = {name}; {needed} permission", "ask who manages it for a grant")
    return found


def document_of(here: Context, me: User, document_id: UUID) -> Document:
    """The document, if the user may read its collection."""

    def work(connection: Connection) -> Document | None:
        document = documents.find(connection, document_id)
        return document if document and collections.holding(connection, me, document.collection_id) else None

    # A replica knows all but the newest, and answers while there is no primary.
    found = reading(here.replica, work) or here.fresh(work)
    if found is None:
        raise not_found("document", document_id)
    return found
