"""Following the change feed: the index is moved forward in order, and refilled when it and the feed no longer match."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from app import metrics
from app.index.vectors import Progress, Vectors
from app.settings import Settings
from app.store import changes, passages
from app.store.changes import Change, Position
from app.store.database import reading
from app.store.passages import Vector

Result = TypeVar("Result")

log = logging.getLogger(__name__)

CHANGES_AT_ONCE = 200
VECTORS_AT_ONCE = 300


class LateReplicaError(Exception):
    """This replica has not replayed a change that another one told us of."""


@dataclass(frozen=True)
class Follower:
    settings: Settings
    replica: Engine
    primary: Engine
    vectors: Vectors


async def follow(follower: Follower) -> int:
    """Apply what is new; the number of changes applied, 0 when the index is in step or the replica is behind it."""
    progress = await follower.vectors.progress()
    position = progress.position if progress else Position()
    if not await _in_thread(follower.replica, lambda connection: changes.knows(connection, position)):
        # This replica may only be late; the primary never is.
        if await _in_thread(follower.primary, lambda connection: changes.knows(connection, position)):
            return 0
        log.warning("index = a change this database never had; the database was restored, so the index is refilled")
        progress = None
    if progress is None:
        await _start_anew(follower)
        progress = Progress()
    position = progress.position
    batch = await _in_thread(follower.replica, lambda connection: changes.after(connection, position, CHANGES_AT_ONCE))
    try:
        for (collection_id, kind), group in itertools.groupby(
            batch, lambda change: (change.collection_id, change.kind)
        ):
            await _apply(follower, collection_id, kind, list(group))
    except LateReplicaError:
        return 0
    await _remember(follower, progress, batch)
    return len(batch)


async def lag(replica: Engine, progress: Progress, at_most: int) -> int:
    """Changes the index has still to apply, counted no further than just beyond ``at_most``."""
    return await asyncio.to_thread(
        reading, replica, lambda connection: changes.count_after(connection, progress.position, at_most + 1)
    )


async def as_of(follower: Follower, change: Position, work: Callable[[Connection], Result]) -> Result:
    """Read from a replica that has this change; raise LateReplicaError when the one asked does not."""

    def checked(connection: Connection) -> Result:
        # Each connection may end at another replica.
        if not changes.knows(connection, change):
            raise LateReplicaError
        return work(connection)

    return await _in_thread(follower.replica, checked)


async def embeddings(follower: Follower, ids: list[str], change: Position) -> list[tuple[str, Vector]]:
    """The vectors as of this change or later; what a later change took away is not among them."""
    return await as_of(follower, change, lambda connection: passages.embeddings(connection, ids))


async def _in_thread(pool: Engine, work: Callable[[Connection], Result]) -> Result:
    return await asyncio.to_thread(reading, pool, work)


async def _start_anew(follower: Follower) -> None:
    log.info("index = empty; filling it from PostgreSQL")
    metrics.INDEX_REFILLS.inc()
    await follower.vectors.empty()


async def _apply(follower: Follower, collection_id: UUID, kind: changes.Kind, group: list[Change]) -> None:
    ids = (passages.passage_id(change.document_id, n) for change in group for n in range(change.passages))
    while some := list(itertools.islice(ids, VECTORS_AT_ONCE)):
        if kind == "deleted":
            await follower.vectors.remove(collection_id, some)
        elif rows := await embeddings(follower, some, group[-1].position):
            await follower.vectors.upsert(collection_id, rows)


async def _remember(follower: Follower, before: Progress, batch: list[Change]) -> None:
    position = batch[-1].position if batch else before.position
    progress = Progress(position, before.filled or len(batch) < CHANGES_AT_ONCE)
    if progress != before:
        await follower.vectors.keep(progress)
    metrics.INDEX_LAG.set(await lag(follower.replica, progress, follower.settings.index.max_lag))
    metrics.INDEX_APPLIED.inc(len(batch))
    metrics.INDEX_SEEN.set_to_current_time()
