"""Hybrid search: nearest vectors and full text at the same time, fused."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Engine

from app import metrics
from app.index.vectors import IndexUnavailableError, Near
from app.inference import BusyError, InferencePool, InferenceUnavailableError
from app.retrieve.fusion import Halves, nearness, scores
from app.retrieve.nearest import Space, nearest
from app.retrieve.rerank import reranked
from app.retrieve.spaces import Spaces
from app.retrieve.weights import Asked, Frequencies, Weights
from app.store import matching, models, passages
from app.store.database import reading
from app.store.matching import Match, Scope
from app.store.models import Stored
from app.store.passages import Passage

log = logging.getLogger(__name__)

Mode = Literal["hybrid", "vector", "lexical"]


@dataclass(frozen=True)
class Searcher:
    replica: Engine
    spaces: Spaces
    inference: InferencePool
    frequencies: Frequencies
    candidates: int
    rerank: str = ""
    rerank_seconds: float = 3


@dataclass(frozen=True)
class Wanted:
    """What is looked for, and where."""

    scope: Scope
    question: str
    limit: int
    mode: Mode = "hybrid"


@dataclass(frozen=True)
class Standing:
    """A passage's place in one half of the search: its rank from 1, and that half's own measure."""

    rank: int
    measure: float


@dataclass(frozen=True)
class Hit:
    """A passage found, with its fused score and where it stood in each half; None: not among its candidates."""

    passage: Passage
    score: float
    vector: Standing | None
    lexical: Standing | None


@dataclass(frozen=True)
class Found:
    """Hits, best first; ``missing`` names the half of the search that could not take part.

    ``nearest`` is the distance of the nearest vector of all, whether its passage is among the hits or not.
    """

    hits: list[Hit]
    weights: Weights
    missing: str | None = None
    nearest: float | None = None
    # Of the embedding model that the question was compared in.
    model: str = ""

    @property
    def passages(self) -> list[Passage]:
        return [hit.passage for hit in self.hits]


@dataclass(frozen=True)
class _Lexical:
    asked: Asked
    matches: list[Match]


# The vectors that were searched in are no longer whole, since the site went over to another model.
LEFT = "left"


async def search(searcher: Searcher, wanted: Wanted) -> Found:
    """The best passages of the scope; the caller has checked that its collections may be read."""
    with metrics.SEARCH_SECONDS.time():
        space = await searcher.spaces.now()
        found = await _search(searcher, wanted, space)
        if found.missing == LEFT:
            # The search heard of the new model, whose vectors stay.
            found = await _search(searcher, wanted, await searcher.spaces.now())
        return replace(found, missing="index") if found.missing == LEFT else found


async def _search(searcher: Searcher, wanted: Wanted, space: Space) -> Found:
    (near, missing), lexical = await asyncio.gather(
        _nearest(searcher, wanted, space),
        asyncio.to_thread(reading, searcher.replica, lambda connection: _lexical(connection, searcher, wanted)),
    )

    def work(connection: Connection) -> tuple[Stored, list[Hit], str | None]:
        stored = models.stored(connection)
        foreign = searcher.spaces.foreign(stored)
        counted = [] if foreign else near
        return stored, _ranked(connection, searcher, wanted, counted, lexical), foreign

    stored, ranked, foreign = await asyncio.to_thread(reading, searcher.replica, work)
    searcher.spaces.hear(stored)
    if wanted.mode != "lexical":
        if foreign:
            # A distance between vectors of two models says nothing.
            log.warning("inference.embedding_model = %s; %s is stored", space.embedder.model, foreign)
            metrics.SEARCH_DEGRADED.labels("index").inc()
            near, missing = [], "index"
        elif not searcher.spaces.keeps(stored, space):
            return Found(ranked[: wanted.limit], lexical.asked.weights, LEFT)
    ranked = await _reranked(searcher, wanted, ranked)
    distance = near[0].distance if near else None
    return Found(ranked[: wanted.limit], lexical.asked.weights, missing, distance, space.embedder.model)


def _lexical(connection: Connection, searcher: Searcher, wanted: Wanted) -> _Lexical:
    frequencies, scope = searcher.frequencies, wanted.scope
    with metrics.LEXICAL_SECONDS.time():
        if wanted.mode == "vector":
            return _Lexical(frequencies.asked(connection, scope.collections, wanted.question), [])
        return _Lexical(*frequencies.matching(connection, scope, wanted.question, searcher.candidates))


def _ranked(
    connection: Connection, searcher: Searcher, wanted: Wanted, near: list[Near], lexical: _Lexical
) -> list[Hit]:
    """All candidates that are still there, best first."""
    vector = {one.id: Standing(rank, one.distance) for rank, one in enumerate(near, start=1)}
    # What a reader is told is the share of all that was asked; the order comes from the words that some passage has.
    whole = sum(lexical.asked.weights.values()) or 1.0
    words = {one.id: Standing(rank, one.score / whole) for rank, one in enumerate(lexical.matches, start=1)}
    found = passages.by_ids(connection, wanted.scope.collections, list(vector | words))
    if wanted.mode == "hybrid":
        halves = Halves(nearness(near), _shared(connection, searcher, wanted, lexical, list(vector)))
        fused = scores(found, halves, lexical.asked.present)
    else:
        fused = nearness(near) | {id_: standing.measure for id_, standing in words.items()}
    hits = [Hit(one, fused[one.id], vector.get(one.id), words.get(one.id)) for one in found]
    # In one half alone its own order stands, which tells apart what its measure does not.
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage.id)) if wanted.mode == "hybrid" else hits


def _shared(
    connection: Connection, searcher: Searcher, wanted: Wanted, lexical: _Lexical, near: Sequence[str]
) -> dict[str, float]:
    """The share of the present words in each candidate, those of the index too."""
    known = {one.id for one in lexical.matches}
    others = [one for one in near if one not in known]
    present = lexical.asked.present
    whole = sum(present.values()) or 1.0
    found = matching.shared(connection, wanted.scope, present, others)
    return {one.id: one.score / whole for one in (*lexical.matches, *found)}


async def _reranked(searcher: Searcher, wanted: Wanted, hits: list[Hit]) -> list[Hit]:
    if not searcher.rerank or wanted.mode != "hybrid" or len(hits) < 2:
        return hits
    found = [hit.passage for hit in hits]
    places = await reranked(searcher.inference, searcher.rerank, searcher.rerank_seconds, wanted.question, found)
    return [hits[place] for place in places]


async def _nearest(searcher: Searcher, wanted: Wanted, space: Space) -> tuple[list[Near], str | None]:
    """With a half of the search gone, words alone still find most of what is asked."""
    if wanted.mode == "lexical":
        return [], None
    try:
        with metrics.QUESTION_SECONDS.time():
            vector = await searcher.inference.embed_question(space.embedder, wanted.question)
        with metrics.VECTOR_SECONDS.time():
            return await nearest(space, wanted.scope, vector, searcher.candidates), None
    except IndexUnavailableError as error:
        log.warning("%s", error)
        metrics.SEARCH_DEGRADED.labels("index").inc()
        return [], "index"
    except (InferenceUnavailableError, BusyError) as error:
        log.warning("%s", error)
        metrics.SEARCH_DEGRADED.labels("inference").inc()
        return [], "inference"
