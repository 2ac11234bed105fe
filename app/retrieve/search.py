"""Hybrid search: nearest vectors and full text at the same time, fused."""

import asyncio
import logging
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine

from app import metrics
from app.index.vectors import IndexUnavailableError, Vectors
from app.inference import BusyError, InferencePool, InferenceUnavailableError
from app.retrieve.fusion import fuse
from app.retrieve.weights import Frequencies, Weights
from app.store import passages
from app.store.database import reading
from app.store.passages import Passage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searcher:
    replica: Engine
    vectors: Vectors
    inference: InferencePool
    frequencies: Frequencies
    candidates: int


@dataclass(frozen=True)
class Found:
    """Passages, best first; ``missing`` names the half of the search that could not take part."""

    passages: list[Passage]
    weights: Weights
    missing: str | None = None


async def search(searcher: Searcher, collection_id: UUID, question: str, limit: int) -> Found:
    """The best passages of the collection; the caller has checked that they may be read."""

    def matching(connection: Connection) -> tuple[Weights, list[str]]:
        with metrics.LEXICAL_SECONDS.time():
            weights = searcher.frequencies.weights(connection, collection_id, question)
            return weights, passages.matching(connection, collection_id, weights, searcher.candidates)

    with metrics.SEARCH_SECONDS.time():
        (near, missing), (weights, matched) = await asyncio.gather(
            _nearest(searcher, collection_id, question), asyncio.to_thread(reading, searcher.replica, matching)
        )
        ranked = fuse([near, matched])
        # A few more than asked for: what was deleted a moment ago is still in the index.
        wanted = ranked[: limit + 10]
        found = await asyncio.to_thread(
            reading, searcher.replica, lambda connection: passages.by_ids(connection, collection_id, wanted)
        )
    return Found(found[:limit], weights, missing)


async def _nearest(searcher: Searcher, collection_id: UUID, question: str) -> tuple[list[str], str | None]:
    """With a half of the search gone, words alone still find most of what is asked."""
    try:
        vector = await searcher.inference.embed_question(question)
        with metrics.VECTOR_SECONDS.time():
            return await searcher.vectors.nearest(collection_id, vector, searcher.candidates), None
    except IndexUnavailableError as error:
        log.warning("%s", error)
        metrics.SEARCH_DEGRADED.labels("index").inc()
        return [], "index"
    except (InferenceUnavailableError, BusyError) as error:
        log.warning("%s", error)
        metrics.SEARCH_DEGRADED.labels("inference").inc()
        return [], "inference"
