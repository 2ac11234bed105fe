"""The API application; every process makes its own connections after the fork."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI

from app import log
from app.api import (
    accounts,
    audit,
    collections,
    conversations,
    grants,
    groups,
    health,
    identities,
    indexes,
    keys,
    library,
    openai,
    problems,
    questions,
    reembedding,
    search,
    storage,
    users,
)
from app.api.active import Active
from app.api.context import Context
from app.api.cookie import Renewal
from app.api.edge import Edge
from app.api.housekeeping import keep_house
from app.api.later import Later
from app.api.rates import Rates
from app.api.recorder import Recorder
from app.api.writers import Writers
from app.inference import InferencePool
from app.oidc.provider import Provider
from app.retrieve.spaces import Spaces
from app.retrieve.weights import Frequencies
from app.settings import ConfigurationError, Settings, credential, load_or_refuse, refuse
from app.store.database import engine
from app.web import pages

# Of the API; what a client relies on changes with its first number and the path alone.
VERSION = "1.0"
# Below this, a signing key can be guessed.
SHORTEST_KEY = 32


def application() -> FastAPI:
    """The application of $RAG_CONFIG."""
    log.configure()
    settings = load_or_refuse()
    app = FastAPI(
        title="On-prem RAG",
        version=VERSION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=problems.documented(),
    )
    app.state.settings = settings
    app.add_middleware(Renewal)
    app.add_middleware(Edge, max_bytes=settings.upload.max_bytes)
    people = (accounts, users, identities, groups, grants, keys, audit)
    documents = (collections, library, storage, search, questions, conversations)
    for module in (*people, *documents, openai, indexes, reembedding, health):
        app.include_router(module.router)
    pages.install(app)
    problems.install(app)
    return app


def make_context(settings: Settings) -> Context:
    """Connections and clients for one process."""
    database = settings.database
    # Half of the connections to the primary are for writes, the others for reading what was just written.
    writers = max(1, database.pool_size // 2)
    primary = engine(database, "read-write", database.statement_seconds, at_least=writers + 3)
    key = credential("token-key")
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(f"credential token-key = {len(key)} characters; at least {SHORTEST_KEY}")
    replica = engine(database, "prefer-standby", database.statement_seconds, role="reader")
    return Context(
        settings=settings,
        token_key=key,
        replica=replica,
        primary=primary,
        writers=Writers(primary, writers, database.write_seconds),
        spaces=Spaces(settings, replica),
        inference=InferencePool(settings.inference),
        recorder=Recorder(primary),
        later=Later(primary),
        active=Active(Path(os.environ["RAG_ACTIVE_USERS"])),
        frequencies=Frequencies(),
        rates=Rates(primary, settings.limits),
        provider=_provider(settings),
    )


def _provider(settings: Settings) -> Provider | None:
    oidc = settings.oidc
    if oidc is None:
        return None
    try:
        return Provider(oidc, credential("oidc-client-secret"), settings.domain)
    except OSError as error:
        raise ConfigurationError(f"oidc.ca_file = {oidc.ca_file}; a readable file of certificates ({error})") from None


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        here = make_context(app.state.settings)
    except ConfigurationError as error:
        refuse(error)
    app.state.context = here
    tasks = [asyncio.create_task(here.recorder.run()), asyncio.create_task(keep_house(here))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await here.recorder.drain(seconds=3)
    here.recorder.close()
    await asyncio.to_thread(here.later.close)
    if here.provider:
        await here.provider.close()
    here.rates.close()
    here.writers.close()
    here.replica.dispose()
    here.primary.dispose()
