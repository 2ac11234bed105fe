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
from app.store import changes
from app.store import embeddings as stored_vectors
from app.store.changes import Change, Position
from app.store.database import reading
from app.store.models import Kept
from app.store.passages import Vector, passage_id

Result = TypeVar("Result")

log = logging.getLogger(__name__)

CHANGES_AT_ONCE = 200
VECTORS_AT_ONCE = 300
# Of vectors that nobody is served from yet: those that somebody is must not wait long for their turn.
OTHERS_AT_ONCE = 20


class LateReplicaError(Exception):
    """This replica has not replayed a change that another one told us of."""


@dataclass(frozen=True)
class Follower:
    """What moves one model's vectors of this host's index."""

    settings: Settings
    replica: Engine
    primary: Engine
    vectors: Vectors
    kept: Kept


async def follow(follower: Follower, *, served: bool = True) -> int:
    """Apply what is new; the number of changes applied, 0 when the index is in step or the replica is behind it.

    The lag that everybody looks at is that of the vectors that are ``served``.
    """
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
    most = CHANGES_AT_ONCE if served else OTHERS_AT_ONCE
    batch = await _in_thread(follower.replica, lambda connection: changes.after(connection, position, most))
    try:
        for (collection_id, kind), group in itertools.groupby(
            (change for change in batch if change.slot in {None, follower.kept.slot}),
            lambda change: (change.collection_id, change.kind),
        ):
            await _apply(follower, collection_id, kind, list(group))
    except LateReplicaError:
        return 0
    await _remember(follower, progress, batch, most, served=served)
    return len(batch)


async def lag(replica: Engine, progress: Progress, at_most: int, slot: str) -> int:
    """Changes the index has still to apply, counted no further than just beyond ``at_most``."""
    return await asyncio.to_thread(
        reading, replica, lambda connection: changes.count_after(connection, progress.position, at_most + 1, slot)
    )


async def is_filled(replica: Engine, progress: Progress, slot: str) -> bool:
    """Whether the index holds the vectors that are there; those of a later model come after the feed's end was seen."""
    if not progress.filled or not slot:
        return progress.filled
    return not await asyncio.to_thread(
        reading, replica, lambda connection: changes.lacks_embedded(connection, progress.position, slot)
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
    return await as_of(follower, change, lambda connection: stored_vectors.of(connection, ids, follower.kept))


async def _in_thread(pool: Engine, work: Callable[[Connection], Result]) -> Result:
    return await asyncio.to_thread(reading, pool, work)


async def _start_anew(follower: Follower) -> None:
    log.info("index of %s = empty; filling it from PostgreSQL", follower.kept)
    metrics.INDEX_REFILLS.inc()
    await follower.vectors.empty()


async def _apply(follower: Follower, collection_id: UUID, kind: changes.Kind, group: list[Change]) -> None:
    ids = (passage_id(change.document_id, n) for change in group for n in range(change.passages))
    while some := list(itertools.islice(ids, VECTORS_AT_ONCE)):
        if kind == "deleted":
            await follower.vectors.remove(collection_id, some)
        elif rows := await embeddings(follower, some, group[-1].position):
            await follower.vectors.upsert(collection_id, rows)


async def _remember(follower: Follower, before: Progress, batch: list[Change], most: int, *, served: bool) -> None:
    position = batch[-1].position if batch else before.position
    progress = Progress(position, before.filled or len(batch) < most)
    if progress != before:
        await follower.vectors.keep(progress)
    metrics.INDEX_APPLIED.inc(len(batch))
    behind = await lag(follower.replica, progress, follower.settings.index.max_lag, follower.kept.slot)
    if served:
        metrics.INDEX_LAG.set(behind)
        metrics.INDEX_SEEN.set_to_current_time()
    metrics.INDEX_MODEL_LAG.labels(follower.kept.model).set(behind)
    filled = await is_filled(follower.replica, progress, follower.kept.slot)
    metrics.INDEX_MODEL_FILLED.labels(follower.kept.model).set(filled)
