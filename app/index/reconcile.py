"""Compares this host's index with PostgreSQL, both ways, and mends it: orphans are removed, missing vectors put back.

Both hold the same when every change arrives; this is for the day on which something did not go as it should.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import log as logs
from app import metrics
from app.index.follower import Follower, LateReplicaError, as_of, embeddings
from app.index.indexes import Indexes
from app.index.vectors import IndexUnavailableError
from app.settings import ConfigurationError, load_or_refuse, refuse
from app.store import embeddings as stored
from app.store import inventory
from app.store.changes import Position
from app.store.database import engine
from app.store.passages import Vector, passage_id, split_ids

log = logging.getLogger(__name__)

AT_ONCE = 1000

Turn = AbstractAsyncContextManager[object]
"""Held, it makes the follower wait, so that the index stands still while a part of it is compared."""


@dataclass
class Found:
    """What was not as it should be, and is now."""

    orphans: int = 0
    missing: int = 0


async def reconcile(followers: Sequence[Follower], turn: Turn) -> Found:
    """Go through every collection, a part at a time; a replica that is behind the index ends the run early."""
    found = Found()
    try:
        for follower in followers:
            for collection_id in await _collections(follower, turn, found):
                await _remove_orphans(follower, turn, collection_id, found)
                await _add_missing(follower, turn, collection_id, found)
    except LateReplicaError:
        log.info("index = ahead of the replica that was asked; the comparison goes on another time")
    metrics.INDEX_ORPHANS.set(found.orphans)
    metrics.INDEX_MISSING.set(found.missing)
    if found.orphans or found.missing:
        log.warning("index = %d orphans removed, %d missing put back", found.orphans, found.missing)
    return found


async def _collections(follower: Follower, turn: Turn, found: Found) -> list[UUID]:
    """Every collection that PostgreSQL knows; one that the index alone has is an orphan as a whole."""
    async with turn:
        known = await as_of(follower, await _position(follower), inventory.collections)
        for stranger in await follower.vectors.collections() - set(known):
            found.orphans += await follower.vectors.drop(stranger)
    return known


async def _remove_orphans(follower: Follower, turn: Turn, collection_id: UUID, found: Found) -> None:
    seen = 0
    while True:
        async with turn:
            ids = await follower.vectors.ids(collection_id, AT_ONCE, seen)
            orphans = await _orphans(follower, collection_id, ids)
            if orphans:
                await follower.vectors.remove(collection_id, orphans)
        if not ids:
            return
        found.orphans += len(orphans)
        seen += len(ids) - len(orphans)


async def _orphans(follower: Follower, collection_id: UUID, ids: list[str]) -> list[str]:
    position = await _position(follower)
    there = await as_of(follower, position, lambda connection: inventory.existing(connection, collection_id, ids))
    return [identifier for identifier in ids if identifier not in there]


async def _add_missing(follower: Follower, turn: Turn, collection_id: UUID, found: Found) -> None:
    after = inventory.START
    while True:
        async with turn:
            keys, added = await _next_missing(follower, collection_id, after)
        if not keys:
            return
        found.missing += added
        after = keys[-1]


async def _next_missing(
    follower: Follower, collection_id: UUID, after: inventory.Key
) -> tuple[list[inventory.Key], int]:
    position = await _position(follower)
    keys = await as_of(
        follower,
        position,
        lambda connection: inventory.expected(connection, collection_id, position, after, AT_ONCE),
    )
    ids = [passage_id(*key) for key in keys]
    there = await follower.vectors.present(collection_id, ids)
    rows = await embeddings(follower, [identifier for identifier in ids if identifier not in there], position)
    if rows:
        rows = await _of_whole_documents(follower, position, rows)
    if rows:
        await follower.vectors.upsert(collection_id, rows)
    return keys, len(rows)


async def _of_whole_documents(
    follower: Follower, position: Position, rows: list[tuple[str, Vector]]
) -> list[tuple[str, Vector]]:
    """Those that the index was told of: while a change embeds a document, nobody misses what it has so far."""
    documents = dict(zip((one for one, _ in rows), split_ids([one for one, _ in rows])[0], strict=True))
    whole = await as_of(
        follower, position, lambda connection: stored.whole(connection, follower.kept, set(documents.values()))
    )
    told = {str(row.document_id) for row in whole}
    return [(one, vector) for one, vector in rows if documents[one] in told]


async def _position(follower: Follower) -> Position:
    progress = await follower.vectors.progress()
    return progress.position if progress else Position()


async def _once(indexes: Indexes) -> Found:
    return await reconcile(await indexes.now(), nullcontext())


def main() -> int:
    """Compare once and say what was found; what rag-index changes meanwhile is seen right by the next run."""
    logs.configure()
    settings = load_or_refuse()
    try:
        replica = engine(settings.database, "prefer-standby", role="reader")
        found = asyncio.run(_once(Indexes(settings, replica, replica)))
    except ConfigurationError as error:
        refuse(error)
    except (IndexUnavailableError, SQLAlchemyError) as error:
        sys.stderr.write(f"{str(error).splitlines()[0]}\n")
        return 3
    sys.stdout.write(f"{found.orphans} orphans removed, {found.missing} missing put back\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
