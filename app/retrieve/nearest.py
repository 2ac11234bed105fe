"""The nearest passages by vector: from this host's index, or compared one by one where few are left to compare."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Engine

from app.index.vectors import Near, Vectors
from app.settings_of_models import Embedder
from app.store import matching
from app.store.database import reading
from app.store.matching import EVERYTHING, Matrix, Scope
from app.store.passages import Vector

# Up to here every vector is compared: where few are left, the index's nearest may all lie outside.
FEW = 2000
# The index is asked for so many times as many as are wanted, and, where too few of those may be found, for so many.
TIMES = 4
MOST = 1000


@dataclass(frozen=True)
class Space:
    """The vectors of one embedding model."""

    replica: Engine
    index: Vectors
    embedder: Embedder


async def nearest(space: Space, scope: Scope, vector: Vector, limit: int) -> list[Near]:
    """The scope's nearest passages, nearest first."""
    if scope.only == EVERYTHING:
        return await _indexed(space, scope, vector, limit)
    compared = await asyncio.to_thread(reading, space.replica, lambda connection: _few(connection, space, scope))
    if compared is not None:
        return exactly(*compared, vector, limit)
    return await _sorted_out(space, scope, vector, limit)


def exactly(ids: Sequence[str], vectors: Matrix, vector: Vector, limit: int) -> list[Near]:
    """The nearest of these by cosine distance."""
    if not ids:
        return []
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    distances = 1 - (vectors @ vector) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return [Near(ids[place], float(distances[place])) for place in np.argsort(distances, kind="stable")[:limit]]


def _few(connection: Connection, space: Space, scope: Scope) -> tuple[list[str], Matrix] | None:
    if matching.count(connection, scope, FEW + 1) > FEW:
        return None
    return matching.vectors(connection, scope, *space.embedder.space)


async def _sorted_out(space: Space, scope: Scope, vector: Vector, limit: int) -> list[Near]:
    """Chroma would scan all it holds for a condition; PostgreSQL sorts out by its keys."""
    kept: list[Near] = []
    for wanted in (limit * TIMES, MOST):
        found = await _indexed(space, scope, vector, wanted)
        ids = [near.id for near in found]
        inside = await asyncio.to_thread(
            reading, space.replica, lambda connection, ids=ids: matching.within(connection, scope, ids)
        )
        kept = [near for near in found if near.id in inside]
        if len(kept) >= limit or len(found) < wanted:
            break
    return kept[:limit]


async def _indexed(space: Space, scope: Scope, vector: Vector, limit: int) -> list[Near]:
    found = await asyncio.gather(*(space.index.nearest(one, vector, limit) for one in scope.collections))
    return sorted((near for some in found for near in some), key=lambda near: (near.distance, near.id))[:limit]
