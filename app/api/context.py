"""What a request needs, made once per process, and who is asking."""

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPBearer
from pydantic import Field
from sqlalchemy import Connection, Engine
from starlette.concurrency import run_in_threadpool

from app import log as logs
from app.api import cookie, scopes, tokens
from app.api.active import Active
from app.api.address import address
from app.api.guard import Guard
from app.api.key_uses import KeyUses
from app.api.later import Later
from app.api.missed import MOMENT_SECONDS, Missed, NoPrimaryError
from app.api.noted import Noted
from app.api.problems import Problem, not_found
from app.api.rates import Rates
from app.api.recorder import Recorder
from app.api.turns import Turns
from app.api.writers import Writers
from app.inference import InferencePool
from app.oidc.provider import Provider
from app.retrieve.search import Searcher
from app.retrieve.spaces import Spaces
from app.retrieve.weights import Frequencies
from app.settings import Settings
from app.store import collections, documents, guesses, keys, rates, sessions
from app.store.audit import Actor
from app.store.collections import Collection
from app.store.database import Result, Work, reading, writing
from app.store.documents import Document
from app.store.grants import Permission
from app.store.keys import Key
from app.store.replay import wait_for_replay
from app.store.sessions import Session
from app.store.users import User

log = logging.getLogger(__name__)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


@dataclass(frozen=True)
class Context:
    settings: Settings
    token_key: str
    replica: Engine
    primary: Engine
    writers: Writers
    spaces: Spaces
    inference: InferencePool
    recorder: Recorder
    later: Later
    active: Active
    rates: Rates
    frequencies: Frequencies
    key_uses: KeyUses = field(default_factory=KeyUses)
    downloads: Noted = field(default_factory=Noted)
    guard: Guard = field(default_factory=Guard)
    missed: Missed = field(default_factory=Missed)
    turns: Turns = field(default_factory=Turns)
    provider: Provider | None = None

    @property
    def searcher(self) -> Searcher:
        answering = self.settings.answering
        return Searcher(
            self.replica,
            self.spaces,
            self.inference,
            self.frequencies,
            answering.candidates,
            answering.rerank,
            answering.rerank_seconds,
        )

    def fresh(self, work: Work[Result]) -> Result:
        """Read what was just written, from the primary; without one, what a replica knows."""
        try:
            return self.missed.unless(lambda: reading(self.primary, work, 0))
        except NoPrimaryError:
            return reading(self.replica, work)

    def written_now(self, work: Work[object]) -> bool:
        """Write, if there is a primary at this moment; False when none said in time that it has it."""
        # Where a replica that has to confirm it just died, a commit would wait for as long as a statement may take.
        hasty = self.primary.execution_options(patience=MOMENT_SECONDS)
        try:
            self.missed.unless(lambda: writing(hasty, work, 0))
        except NoPrimaryError:
            return False
        return True

    def known(self, work: Work[Result | None]) -> Result | None:
        """Read from a replica; what none knows may be so new that only the primary does."""
        return reading(self.replica, work) or self.fresh(work)

    async def write_everywhere(self, work: Work[Result]) -> Result:
        """Write what takes something away from somebody: once done, no server lets the next request have it."""
        result = await self.write(work)
        await run_in_threadpool(wait_for_replay, self.primary, self.settings.database)
        return result

    async def write(self, work: Work[Result], alone: UUID | None = None) -> Result:
        """Write, and wait for a primary for as long as the settings allow; ``work`` may run more than once."""
        result = await self.writers.write(work, alone)
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


@dataclass(frozen=True)
class Caller:
    """Who sent a request, and whether a session's token, perhaps the browser's cookie, or an API key said so."""

    user: User
    session: Session | None = None
    key: Key | None = None
    by_cookie: bool = False


# For the API's description alone; `caller` looks itself.
BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An access token or an API key.")


def caller(request: Request, here: Here, _: Annotated[object, Security(BEARER)] = None) -> Caller:
    """Whose token or API key came with the request; raise 401 without one, 403 where the key's scopes do not reach."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = kind.lower() == "bearer"
    if bearer and token.startswith(keys.PREFIX):
        found = _by_key(request, here, token)
    else:
        found = _by_token(request, here, token if bearer else None)
    if found is None:
        raise Problem(401, "token = missing, expired or forged; one from POST /api/v1/token", "sign in again")
    logs.add(user=str(found.user.id))
    here.active.note(found.user.id)
    if found.key:
        scopes.require(found.key.scopes, request.method, getattr(request.scope.get("route"), "path", ""))
    return found


Who = Annotated[Caller, Depends(caller)]


def _user(who: Who) -> User:
    return who.user


Me = Annotated[User, Depends(_user)]


def _by_token(request: Request, here: Context, token: str | None) -> Caller | None:
    """The caller by the token, or when there is none by the browser's cookie, which lives on while it is used."""
    seconds = here.settings.token_seconds
    sent = request.cookies.get(cookie.NAME, "") if token is None else token
    access = tokens.read_access(sent, here.token_key, here.settings.domain)
    user = here.known(lambda connection: sessions.user_of(connection, access.session)) if access else None
    if access is None or user is None:
        return None
    left = access.expires - datetime.now(UTC)
    if (
        token is None
        and access.session.id
        and left < timedelta(seconds=seconds) / 2 < access.session.ends - access.expires
    ):
        cookie.renew(request, *tokens.access(access.session, here.token_key, here.settings.domain, seconds))
    return Caller(user, session=access.session, by_cookie=token is None)


def _by_key(request: Request, here: Context, token: str) -> Caller | None:
    sent = keys.read(token, here.token_key)
    if sent is None:
        return None
    # Keys that are good, or made here, are looked up however many others come from there.
    where = rates.place(guesses.site(address(request)))
    if not here.key_uses.trusts(sent):
        here.rates.refuse_beyond(where, "wrong keys")
    found = here.known(lambda connection: keys.find(connection, sent))
    here.key_uses.found(sent, good=found is not None)
    if found is None:
        here.rates.note(where, "wrong keys")
        return None
    user, key = found
    here.key_uses.note(here.later, key)
    return Caller(user, key=key)


def actor(request: Request, name: str) -> Actor:
    """Somebody of this name who acts in this request."""
    return Actor(name, str(request.scope.get("request_id", "")), address(request))


def acting(request: Request, who: Who) -> Actor:
    """Who acts, for the audit."""
    return replace(actor(request, who.user.name), key=who.key.name if who.key else None)


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
