"""A Chroma of the drill's own, filled from the restored PostgreSQL by the follower's code, and compared with it."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
from sqlalchemy import Connection, Engine, text

from app.backup.drill.checks import CheckError
from app.backup.drill.place import process
from app.index.follower import Follower, follow
from app.index.indexes import Indexes
from app.settings import Settings
from app.store import embeddings, inventory
from app.store.database import engine, reading
from app.store.passages import passage_id

AT_ONCE = 1000
ASKED = 40
NEAREST = 10
# Passages with the same text have the same vector, and may all be before the one that was looked for.
SAME = 1e-4


@contextlib.contextmanager
def chroma(settings: Settings, packages: Path, folder: Path) -> Iterator[None]:
    """The server that the fleet runs, empty."""
    address = f"http://127.0.0.1:{settings.chroma.port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{address}/api/v2/heartbeat", trust_env=False, timeout=2).status_code == 200
        return False

    where = ["--host", "127.0.0.1", "--port", str(settings.chroma.port), "--path", str(folder / "data")]
    command = [sys.executable, str(packages / "bin/chroma"), "run", *where]
    environment = {"PYTHONPATH": str(packages), "ANONYMIZED_TELEMETRY": "False"}
    with process(folder, command, environment, answers, 60):
        yield


def filled(settings: Settings) -> str:
    """Everything that PostgreSQL has, put in by what fills an app host's index, and then the same ids on both sides."""
    return _asked(settings, _filled)


def nearest(settings: Settings) -> str:
    """Stored passages are found by their own vectors."""
    return _asked(settings, _nearest)


def _asked(settings: Settings, work: Callable[[Indexes, Engine], Awaitable[str]]) -> str:
    pool = engine(settings.database, "read-write", role="reader", at_least=3)

    async def whole() -> str:
        return await work(Indexes(settings, pool, pool), pool)

    try:
        return asyncio.run(whole())
    finally:
        pool.dispose()


async def _filled(indexes: Indexes, pool: Engine) -> str:
    changes = passages = 0
    followers = await indexes.now()
    for place, follower in enumerate(followers):
        while applied := await follow(follower, served=place == 0):
            changes += applied
        passages += await _compared(follower, pool, served=place == 0)
    models = ", ".join(follower.kept.model for follower in followers)
    return f"{passages} passages of {models}: the same ids in both, {changes} changes applied"


async def _compared(follower: Follower, pool: Engine, *, served: bool) -> int:
    progress = await follower.vectors.progress()
    if progress is None:
        raise CheckError("index = empty after the follower was done; a position")
    position = progress.position
    known: list[UUID] = reading(pool, inventory.collections)
    if strangers := await follower.vectors.collections() - set(known):
        raise CheckError(f"index = {len(strangers)} collections that PostgreSQL does not have")
    count = 0
    for collection in known:
        wanted: set[str] = set()
        after = inventory.START
        part = partial(inventory.expected, collection_id=collection, position=position, most=AT_ONCE)
        while keys := reading(pool, partial(part, after=after)):
            wanted |= await asyncio.to_thread(reading, pool, _those(follower, keys, served=served))
            after = keys[-1]
        there: set[str] = set()
        while some := await follower.vectors.ids(collection, AT_ONCE, len(there)):
            there |= set(some)
        if wanted != there:
            missing, orphans = len(wanted - there), len(there - wanted)
            raise CheckError(
                f"index of {collection} = {missing} passages missing, {orphans} that PostgreSQL lacks; none"
            )
        count += len(wanted)
    return count


def _those(follower: Follower, keys: list[inventory.Key], *, served: bool) -> Callable[[Connection], set[str]]:
    """The passages that the index must hold; while a change embeds documents, those of whole ones."""

    def work(connection: Connection) -> set[str]:
        if served:
            return {passage_id(*key) for key in keys}
        rows = embeddings.whole(connection, follower.kept, {str(document) for document, _ in keys})
        whole = {row.document_id for row in rows}
        return {passage_id(*key) for key in keys if key[0] in whole}

    return work


async def _nearest(indexes: Indexes, pool: Engine) -> str:
    follower = (await indexes.now())[0]

    def work(connection: Connection) -> list[tuple[UUID, str]]:
        rows = connection.execute(
            text("select collection_id, document_id, ordinal from passages order by random() limit :most"),
            {"most": ASKED},
        )
        return [(row.collection_id, passage_id(row.document_id, row.ordinal)) for row in rows]

    chosen = reading(pool, work)
    if not chosen:
        return "no passage is stored, so there is none to find"
    vectors = dict(
        reading(pool, lambda connection: embeddings.of(connection, [one for _, one in chosen], follower.kept))
    )
    first = 0
    for collection, identifier in chosen:
        if identifier not in vectors:
            raise CheckError(f"passage {identifier} = without a vector of {follower.kept}; one for every passage")
        near = await follower.vectors.nearest(collection, np.asarray(vectors[identifier]), NEAREST)
        found = [one.id for one in near]
        if identifier not in found and not (near and near[-1].distance <= SAME):
            raise CheckError(
                f"passage {identifier} = not among the {NEAREST} nearest to its own vector; the first of them"
            )
        first += bool(near) and (near[0].id == identifier or near[0].distance <= SAME)
    return f"{len(chosen)} stored vectors found their own passages, {first} of them first"
