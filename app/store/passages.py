"""Passages: the quotable pieces of documents, with their embeddings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

Vector = NDArray[np.float32]

# Passages of before places were kept, or of an older program during a deploy, have a section's line and a page alone.
_BY_IDS = """
select p.document_id, p.ordinal, d.title, p.section, p.page, p.text,
    case when p.place = '{}' and p.page is not null then jsonb_build_object('page', p.page) else p.place end as place,
    case when p.headings = '{}' and p.section <> '' then string_to_array(p.section, ' > ') else p.headings end
        as headings
from unnest(cast(:documents as uuid[]), cast(:ordinals as int[]))
    with ordinality as wanted (document_id, ordinal, rank)
join passages p on p.document_id = wanted.document_id and p.ordinal = wanted.ordinal
join documents d on d.id = p.document_id and d.state = 'indexed'
where cast(:collection as uuid) is null or p.collection_id = cast(:collection as uuid)
order by wanted.rank
"""

# A question asked in plain words rarely has all of them in one passage, so any of them may match. PostgreSQL's own
# ranks know nothing of rarity: with them, passages full of "default" come before the one on what was asked about.
_MATCHING = """
with wanted as materialized (
    select phraseto_tsquery('english', word) as query, weight
    from unnest(cast(:words as text[]), cast(:weights as float8[])) as given (word, weight)
), any_of as materialized (
    select cast(string_agg('(' || cast(query as text) || ')', ' | ') as tsquery) as query from wanted
)
select p.document_id, p.ordinal from passages p, any_of
where p.collection_id = :collection and p.words @@ any_of.query
order by (select sum(wanted.weight) from wanted where p.words @@ wanted.query) desc,
    ts_rank_cd(p.words, any_of.query, 1) desc, p.document_id, p.ordinal
limit :limit
"""


@dataclass(frozen=True)
class NewPassage:
    ordinal: int
    text: str
    headings: tuple[str, ...]
    place: dict[str, Any]
    embedding: Vector


@dataclass(frozen=True)
class Passage:
    document_id: UUID
    ordinal: int
    title: str
    section: str
    page: int | None
    text: str
    place: dict[str, Any] = field(default_factory=dict, hash=False)
    headings: list[str] = field(default_factory=list, hash=False)

    @property
    def id(self) -> str:
        return passage_id(self.document_id, self.ordinal)


def passage_id(document_id: UUID, ordinal: int) -> str:
    """The passage's name in Chroma, from which its row is found again."""
    return f"{document_id}:{ordinal}"


def replace(
    connection: Connection, collection_id: UUID, document_id: UUID, model: str, passages: Sequence[NewPassage]
) -> int:
    """Put these passages in the place of the document's earlier ones; the number of those."""
    connection.execute(
        text(
            "insert into embedding_models (model, dimension) values (:model, :dimension)"
            " on conflict (model, dimension) do nothing"
        ),
        {"model": model, "dimension": len(passages[0].embedding)},
    )
    removed = connection.execute(text("delete from passages where document_id = :id"), {"id": document_id}).rowcount
    connection.execute(
        text(
            "insert into passages"
            " (document_id, ordinal, collection_id, text, section, page, headings, place, embedding, model, dimension)"
            " values (:document, :ordinal, :collection, :text, :section, :page, :headings, cast(:place as jsonb),"
            " :embedding, :model, :dimension)"
        ),
        [
            {
                "document": document_id,
                "ordinal": passage.ordinal,
                "collection": collection_id,
                "text": passage.text,
                "section": " > ".join(passage.headings),
                "page": passage.place.get("page"),
                "headings": list(passage.headings),
                "place": json.dumps(passage.place),
                "embedding": passage.embedding.astype("<f4").tobytes(),
                "model": model,
                "dimension": len(passage.embedding),
            }
            for passage in passages
        ],
    )
    return removed


def one(connection: Connection, document_id: UUID, ordinal: int) -> Passage | None:
    """The passage, if its document is searchable."""
    found = by_ids(connection, None, [passage_id(document_id, ordinal)])
    return found[0] if found else None


def by_ids(connection: Connection, collection_id: UUID | None, ids: Sequence[str]) -> list[Passage]:
    """The passages with these ids in that order, without those gone since or of another collection."""
    documents, ordinals = _split(ids)
    rows = connection.execute(
        text(_BY_IDS), {"documents": documents, "ordinals": ordinals, "collection": collection_id}
    )
    return [_passage(row) for row in rows]


def frequencies(connection: Connection, collection_id: UUID, words: Sequence[str]) -> dict[str, int]:
    """In how many of the collection's passages each word stands; under "" their number, and no words of no meaning."""
    total = connection.execute(
        text("select count(*) from passages where collection_id = :collection"), {"collection": collection_id}
    ).scalar_one()
    rows = connection.execute(
        text(
            "select wanted.word, (select count(*) from passages p where p.collection_id = :collection"
            " and p.words @@ phraseto_tsquery('english', wanted.word)) as passages"
            " from unnest(cast(:words as text[])) as wanted (word)"
            " where numnode(phraseto_tsquery('english', wanted.word)) > 0"
        ),
        {"collection": collection_id, "words": list(words)},
    )
    return {"": total, **{row.word: row.passages for row in rows}}


def matching(connection: Connection, collection_id: UUID, weights: Mapping[str, float], limit: int) -> list[str]:
    """Ids of the passages that share words with the question, those with the weightiest words first."""
    rows = connection.execute(
        text(_MATCHING),
        {
            "collection": collection_id,
            "words": list(weights),
            "weights": list(weights.values()),
            "limit": limit,
        },
    )
    return [passage_id(row.document_id, row.ordinal) for row in rows]


def embeddings(connection: Connection, ids: Sequence[str]) -> list[tuple[str, Vector]]:
    """Those of the passages that still exist, with their vectors."""
    documents, ordinals = _split(ids)
    rows = connection.execute(
        text(
            "select document_id, ordinal, embedding from passages where (document_id, ordinal) in"
            " (select * from unnest(cast(:documents as uuid[]), cast(:ordinals as int[])))"
        ),
        {"documents": documents, "ordinals": ordinals},
    )
    return [
        (passage_id(row.document_id, row.ordinal), np.frombuffer(row.embedding, dtype="<f4").astype(np.float32))
        for row in rows
    ]


def foreign_model(connection: Connection, model: str, dimension: int) -> str | None:
    """An embedding model other than ours whose vectors are stored, or None."""
    row = connection.execute(
        text("select model, dimension from embedding_models where (model, dimension) <> (:model, :dimension) limit 1"),
        {"model": model, "dimension": dimension},
    ).one_or_none()
    return f"{row.model} ({row.dimension})" if row else None


def _split(ids: Sequence[str]) -> tuple[list[str], list[int]]:
    pairs = [identifier.rsplit(":", 1) for identifier in ids]
    return [document for document, _ in pairs], [int(ordinal) for _, ordinal in pairs]


def _passage(row: Row[Any]) -> Passage:
    return Passage(**row._mapping)
