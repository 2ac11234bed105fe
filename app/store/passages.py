"""Passages: the quotable pieces of documents, with their embeddings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from app.store import models

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
where cast(:collections as uuid[]) is null or p.collection_id = any(cast(:collections as uuid[]))
order by wanted.rank
"""


# Many at once: a way to the server and back for each would take longer than the work there.
AT_ONCE = 200
_INSERT = """
insert into passages
    (document_id, ordinal, collection_id, text, section, page, headings, place, embedding, model, dimension)
select :document, ordinal, :collection, text, section, page, headings, place, embedding, :model, :dimension
from rows from (
    json_to_recordset(cast(:rows as json))
        as (ordinal int, text text, section text, page int, headings text[], place jsonb),
    unnest(cast(:embeddings as bytea[]))
) as given (ordinal, text, section, page, headings, place, embedding)
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
    models.note(connection, model, len(passages[0].embedding))
    removed = connection.execute(text("delete from passages where document_id = :id"), {"id": document_id}).rowcount
    dimension = len(passages[0].embedding)
    of_all = {"document": document_id, "collection": collection_id, "model": model, "dimension": dimension}
    for start in range(0, len(passages), AT_ONCE):
        some = passages[start : start + AT_ONCE]
        given = {
            "rows": json.dumps([_row(one) for one in some], ensure_ascii=False),
            "embeddings": [one.embedding.astype("<f4").tobytes() for one in some],
        }
        connection.execute(text(_INSERT), of_all | given)
    return removed


def _row(passage: NewPassage) -> dict[str, Any]:
    """All of it but its vector."""
    return {
        "ordinal": passage.ordinal,
        "text": passage.text,
        "section": " > ".join(passage.headings),
        "page": passage.place.get("page"),
        "headings": list(passage.headings),
        "place": passage.place,
    }


def one(connection: Connection, document_id: UUID, ordinal: int) -> Passage | None:
    """The passage, if its document is searchable."""
    found = by_ids(connection, None, [passage_id(document_id, ordinal)])
    return found[0] if found else None


def by_ids(connection: Connection, collections: Sequence[UUID] | None, ids: Sequence[str]) -> list[Passage]:
    """The passages with these ids in that order, without those gone since or of other collections."""
    documents, ordinals = split_ids(ids)
    within = None if collections is None else list(collections)
    rows = connection.execute(text(_BY_IDS), {"documents": documents, "ordinals": ordinals, "collections": within})
    # By position: names would be looked up anew for every row.
    return [Passage(*row) for row in rows]


def split_ids(ids: Sequence[str]) -> tuple[list[str], list[int]]:
    """The documents and the ordinals of these passages, as statements take them."""
    pairs = [identifier.rsplit(":", 1) for identifier in ids]
    return [document for document, _ in pairs], [int(ordinal) for _, ordinal in pairs]
