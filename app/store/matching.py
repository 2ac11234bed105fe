"""What a search asks of PostgreSQL: words, limits on documents, and vectors where few passages are left to compare."""

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

# A question asked in plain words rarely has all of them in one passage, so any of them may match. PostgreSQL's own
# ranks know nothing of rarity: with them, passages full of "default" come before the one on what was asked about.
_MATCHING = """
with wanted as materialized (
    select phraseto_tsquery(words_language(), word) as query, weight
    from unnest(cast(:words as text[]), cast(:weights as float8[])) as given (word, weight)
), any_of as materialized (
    select cast(string_agg('(' || cast(query as text) || ')', ' | ') as tsquery) as query from wanted
)
select p.document_id, p.ordinal, (select sum(wanted.weight) from wanted where p.words @@ wanted.query) as score
from passages p, any_of where p.words @@ any_of.query and {within}
order by score desc, ts_rank_cd(p.words, any_of.query, 1) desc, p.document_id, p.ordinal
limit :limit
"""

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
    """The passages that share words with the question, those with the weightiest words first."""
    wanted = {"words": list(weights), "weights": list(weights.values()), "limit": limit}
    rows = _rows(connection, _MATCHING, scope, wanted)
    return [Match(passage_id(row.document_id, row.ordinal), row.score) for row in rows]


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
