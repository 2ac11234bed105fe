"""What a search asks of PostgreSQL: words, limits on documents, and vectors where few passages are left to compare."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from app.store import embeddings
from app.store.passages import passage_id, split_ids

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Only:
    """Limits on the documents that may be found; what is empty limits nothing. ``until`` itself is outside."""

    documents: tuple[UUID, ...] = ()
    media_types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Only()


@dataclass(frozen=True)
class Scope:
    """Where is searched; the caller has checked that the collections may be read."""

    collections: tuple[UUID, ...]
    only: Only = EVERYTHING


@dataclass(frozen=True)
class Match:
    """A passage that shares words with a question, and what those weigh together."""

    id: str
    score: float


@dataclass(frozen=True)
class Counted:
    """In how many passages each word of meaning stands, and the best of these."""

    passages: dict[str, int]
    matches: list[Match]


# In a handful of passages one count more or less is chance; this keeps it from deciding.
SMOOTHING = 2


def weight(passages: int, total: int) -> float:
    """What a word tells that stands in so many of all passages: the rarer, the more."""
    return math.log1p((total + SMOOTHING) / (passages + SMOOTHING))


# psycopg2 writes the values into the statement, so the planner drops the conditions that limit nothing.
_WITHIN = """
p.collection_id = any(cast(:collections as uuid[])) and (:everything or exists (
    select from documents d where d.id = p.document_id and d.state = 'indexed'
    and (cast(:documents as uuid[]) is null or d.id = any(cast(:documents as uuid[])))
    and (cast(:media_types as text[]) is null or d.media_type = any(cast(:media_types as text[])))
    and (cast(:since as timestamptz) is null or d.created_at >= :since)
    and (cast(:until as timestamptz) is null or d.created_at < :until)
))
"""

# Asked of the index word by word: with all of them at once, each passage's words would be unpacked for every one.
_FOUND = """
select wanted.place, p.document_id, p.ordinal from wanted cross join lateral (
    select p.document_id, p.ordinal from passages p where p.words @@ wanted.query and {within} offset 0
) p
"""

# Those that may be among the first: only of these it is looked how often each has the words, as all would have to be
# unpacked for it. The hair is for sums that computers make a little different in another order.
_BEST = """
select scored.document_id, scored.ordinal, scored.places, (
    select sum(present.weight * ts_rank(cast(array[1, 1, 1, 1] as real[]), p.words, present.query))
    from present where p.words @@ present.query
) as rank
from scored join passages p on p.document_id = scored.document_id and p.ordinal = scored.ordinal
where scored.score >= (1 - 1e-12) * (
    select min(score) from (select score from scored order by score desc limit :limit) first_ones
)
"""

# A question asked in plain words rarely has all of them in one passage, so any of them may match. PostgreSQL's own
# ranks know nothing of rarity: with them, passages full of "default" come before the one on what was asked about.
_MATCHING = f"""
with wanted as materialized (
    select place, phraseto_tsquery(words_language(), word) as query, weight
    from unnest(cast(:words as text[]), cast(:weights as float8[])) with ordinality as given (word, weight, place)
), found as materialized ({_FOUND}
), scored as materialized (
    select document_id, ordinal, sum(weight) as score, bit_or(1::bigint << (place - 1)::int) as places
    from found join wanted using (place) group by document_id, ordinal
), present as (select query, weight from wanted)
{_BEST}
"""  # noqa: S608 - of our own words only

# The same for words of which not all were counted: all are on the way, and what is known already counts.
_COUNTED = f"""
with given as materialized (
    select place, phraseto_tsquery(words_language(), word) as query, known
    from unnest(cast(:words as text[]), cast(:known as int[])) with ordinality as given (word, known, place)
), wanted as materialized (
    select place, query, known from given where numnode(query) > 0
), found as materialized ({_FOUND}
), counted as materialized (
    select place, coalesce(known, (select count(*) from found where found.place = wanted.place)) as passages from wanted
), weighted as materialized (
    select place, ln(1 + cast(:total + :smoothing as float8) / (passages + :smoothing)) as weight from counted
), scored as materialized (
    select document_id, ordinal, sum(weight) as score, bit_or(1::bigint << (place - 1)::int) as places
    from found join weighted using (place) group by document_id, ordinal
), present as (
    select query, weight from wanted join counted using (place) join weighted using (place) where counted.passages > 0
)
select null as document_id, place as ordinal, passages as places, null as rank from counted union all {_BEST}
"""  # noqa: S608 - of our own words only

_SHARED = """
with asked as materialized (
    select phraseto_tsquery(words_language(), word) as query, weight
    from unnest(cast(:words as text[]), cast(:weights as float8[])) as given (word, weight)
)
select p.document_id, p.ordinal, (select sum(asked.weight) from asked where p.words @@ asked.query) as score
from unnest(cast(:ids as uuid[]), cast(:ordinals as int[])) as wanted (document_id, ordinal)
join passages p on p.document_id = wanted.document_id and p.ordinal = wanted.ordinal
where {within}
"""

_COUNT = "select count(*) as passages from (select from passages p where {within} limit :at_most) as counted"

_SORTED_OUT = """
select p.document_id, p.ordinal
from unnest(cast(:ids as uuid[]), cast(:ordinals as int[])) as wanted (document_id, ordinal)
join passages p on p.document_id = wanted.document_id and p.ordinal = wanted.ordinal
where {within}
"""

_VECTORS = f"""
select * from (
    select p.document_id, p.ordinal, {embeddings.OF_MODEL} as embedding
    from passages p {embeddings.JOINED} where {{within}}
) as found where embedding is not null
"""  # noqa: S608 - of our own words only


def frequencies(connection: Connection, collection_id: UUID, words: Sequence[str]) -> dict[str, int]:
    """In how many of the collection's passages each word stands, for "" their number; no words of no meaning."""
    every = text("select count(*) from passages where collection_id = :collection")
    total = {"": connection.execute(every, {"collection": collection_id}).scalar_one()} if "" in words else {}
    rows = connection.execute(
        text(
            "select word, (select count(*) from passages p where p.collection_id = :collection"
            " and p.words @@ wanted.query) as passages"
            " from (select word, phraseto_tsquery(words_language(), word) as query"
            " from unnest(cast(:words as text[])) as given (word)) as wanted where numnode(query) > 0"
        ),
        {"collection": collection_id, "words": list(words)},
    )
    return total | {row.word: row.passages for row in rows}


def matching(connection: Connection, scope: Scope, weights: Mapping[str, float], limit: int) -> list[Match]:
    """The passages that share the weightiest words with the question, best first; 63 words at most."""
    wanted = {"words": list(weights), "weights": list(weights.values()), "limit": limit}
    rows = _rows(connection, _MATCHING, scope, wanted)
    return _first(rows, list(weights.values()), limit)


def counting(connection: Connection, scope: Scope, known: Mapping[str, int | None], total: int, limit: int) -> Counted:
    """The same where a word weighs by its passages of ``total``, and those not ``known`` are counted on the way."""
    wanted = {"words": list(known), "known": list(known.values()), "total": total, "smoothing": SMOOTHING}
    rows = _rows(connection, _COUNTED, scope, {**wanted, "limit": limit})
    counts = {row.ordinal - 1: row.places for row in rows if row.document_id is None}
    weights = [weight(counts.get(place, 0), total) for place in range(len(known))]
    passages = {word: counts[place] for place, word in enumerate(known) if place in counts}
    return Counted(passages, _first([row for row in rows if row.document_id], weights, limit))


def shared(connection: Connection, scope: Scope, weights: Mapping[str, float], ids: Sequence[str]) -> list[Match]:
    """The same for these passages, whether they share words with the question or not."""
    documents, ordinals = split_ids(ids)
    wanted = {"words": list(weights), "weights": list(weights.values())}
    rows = _rows(connection, _SHARED, scope, {**wanted, "ids": documents, "ordinals": ordinals})
    return [Match(passage_id(row.document_id, row.ordinal), row.score or 0.0) for row in rows]


def count(connection: Connection, scope: Scope, at_most: int) -> int:
    """How many passages the scope holds, counted no further than ``at_most``."""
    return int(_rows(connection, _COUNT, scope, {"at_most": at_most})[0].passages)


def within(connection: Connection, scope: Scope, ids: Sequence[str]) -> set[str]:
    """Those of the passages that the scope holds."""
    documents, ordinals = split_ids(ids)
    wanted = {"ids": documents, "ordinals": ordinals}
    return {passage_id(row.document_id, row.ordinal) for row in _rows(connection, _SORTED_OUT, scope, wanted)}


def vectors(connection: Connection, scope: Scope, model: str, dimension: int) -> tuple[list[str], Matrix]:
    """The scope's passages with their vectors, a row each; those without one in this model are left out."""
    rows = _rows(connection, _VECTORS, scope, {"model": model, "dimension": dimension})
    values = np.frombuffer(b"".join(row.embedding for row in rows), dtype="<f4").astype(np.float32)
    return [passage_id(row.document_id, row.ordinal) for row in rows], values.reshape(len(rows), dimension)


def _first(rows: Sequence[Row[Any]], weights: Sequence[float], limit: int) -> list[Match]:
    """Those that weigh most; among them those first that come back to these words: one may fall by the way."""
    # What computers add up in another order is equal all the same.
    scored = [(-_weighed(row.places, weights), -round(row.rank, 9), row.document_id, row.ordinal) for row in rows]
    best = sorted(sorted(scored)[:limit], key=lambda one: (one[1], one))
    return [Match(passage_id(document_id, ordinal), -less) for less, _, document_id, ordinal in best]


def _weighed(places: int, weights: Sequence[float]) -> float:
    """The sum of the weights at these places, always in one order: equal passages weigh exactly the same."""
    whole = 0.0
    for place, one in enumerate(weights):
        if places >> place & 1:
            whole += one
    return whole


def _rows(connection: Connection, statement: str, scope: Scope, wanted: dict[str, Any]) -> Sequence[Row[Any]]:
    only = scope.only
    parameters = {
        "collections": list(scope.collections),
        "everything": only == EVERYTHING,
        "documents": list(only.documents) or None,
        "media_types": list(only.media_types) or None,
        "since": only.since,
        "until": only.until,
    }
    return connection.execute(text(statement.format(within=_WITHIN)), parameters | wanted).all()
