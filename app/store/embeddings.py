"""Vectors of passages, in whichever model: a passage has one beside its text, and during a change another one here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from app.store import changes
from app.store.models import Kept
from app.store.passages import Vector, passage_id, split_ids

Matrix = NDArray[np.float32]
Key = tuple[UUID, int]

START: Key = (UUID(int=0), -1)

# The vector that a passage p has in a model, or null; with JOINED in its from clause.
OF_MODEL = "case when p.model = :model and p.dimension = :dimension then p.embedding else e.embedding end"
# Looked up by its key for each passage: what the planner knows of a table that grew within minutes is wrong by orders.
JOINED = """left join lateral (
    select v.document_id, v.embedding from embeddings v
    where v.document_id = p.document_id and v.ordinal = p.ordinal and v.model = :model and v.dimension = :dimension
    limit 1
) e on true"""
_HAS = "((p.model = :model and p.dimension = :dimension) or e.document_id is not null)"

_LACKING = f"""
select p.document_id, p.ordinal, p.xmin::text as version, d.title, p.text,
    case when p.headings = '{{}}' and p.section <> '' then string_to_array(p.section, ' > ') else p.headings end
        as headings
from passages p join documents d on d.id = p.document_id {JOINED}
where (p.document_id, p.ordinal) > (:after_document, :after_ordinal) and not {_HAS}
order by p.document_id, p.ordinal limit :most
"""  # noqa: S608 - of our own words only

_WHOLE = f"""
select p.collection_id, p.document_id, count(*) as passages
from passages p {JOINED} where p.document_id = any(cast(:documents as uuid[]))
group by p.collection_id, p.document_id having bool_and({_HAS})
"""  # noqa: S608 - of our own words only


@dataclass(frozen=True)
class Lacking:
    """A passage without a vector in the model that is asked for; ``version`` is the row's own."""

    document_id: UUID
    ordinal: int
    version: str
    title: str
    headings: list[str]
    text: str

    @property
    def key(self) -> Key:
        return self.document_id, self.ordinal


@dataclass(frozen=True)
class Done:
    """How many passages there are, and how many of them have a vector in the model."""

    passages: int
    done: int

    @property
    def lacking(self) -> int:
        """How many have none."""
        return self.passages - self.done


def of(connection: Connection, ids: Sequence[str], kept: Kept) -> list[tuple[str, Vector]]:
    """Those of the passages that still exist and have a vector in this model."""
    documents, ordinals = split_ids(ids)
    rows = connection.execute(
        text(
            f"select p.document_id, p.ordinal, {OF_MODEL} as embedding from passages p {JOINED}"  # noqa: S608 - as above
            " where (p.document_id, p.ordinal) in"
            " (select * from unnest(cast(:documents as uuid[]), cast(:ordinals as int[])))"
            f" and {_HAS}"
        ),
        _model(kept) | {"documents": documents, "ordinals": ordinals},
    )
    return [
        (passage_id(row.document_id, row.ordinal), np.frombuffer(row.embedding, dtype="<f4").astype(np.float32))
        for row in rows
    ]


def add(connection: Connection, document_id: UUID, kept: Kept, vectors: Sequence[Vector]) -> None:
    """Put vectors of a second model beside those of the document's passages, which this transaction stored."""
    _put(connection, kept, [(document_id, ordinal, None, vector) for ordinal, vector in enumerate(vectors)])


def lacking(connection: Connection, kept: Kept, after: Key, most: int) -> list[Lacking]:
    """The next passages without a vector in this model, in order."""
    after_key = {"after_document": after[0], "after_ordinal": after[1], "most": most}
    rows = connection.execute(text(_LACKING), _model(kept) | after_key)
    return [Lacking(**row._mapping) for row in rows]


def complete(connection: Connection, kept: Kept, found: Sequence[Lacking], vectors: Sequence[Vector]) -> None:
    """Keep these vectors, unless their passage is another one by now; indexes hear of documents that lack none."""
    rows = [(one.document_id, one.ordinal, one.version, vector) for one, vector in zip(found, vectors, strict=True)]
    _put(connection, kept, rows)
    changes.append_embedded(connection, kept.slot, whole(connection, kept, {str(one.document_id) for one in found}))


def whole(connection: Connection, kept: Kept, documents: Iterable[str]) -> Sequence[Row[Any]]:
    """Those of the documents that lack no vector in this model, each with its collection and number of passages."""
    return connection.execute(text(_WHOLE), _model(kept) | {"documents": sorted(documents)}).all()


def count(connection: Connection, kept: Kept) -> Done:
    """How far this model is; a passage has its vector in one of the two places."""
    row = connection.execute(
        text(
            "select count(*) as passages, count(*) filter (where model = :model and dimension = :dimension)"
            " + (select count(*) from embeddings where model = :model and dimension = :dimension) as done from passages"
        ),
        _model(kept),
    ).one()
    return Done(row.passages, row.done)


def settle(connection: Connection, kept: Kept, after: Key, most: int) -> Key | None:
    """Put the next vectors of this model beside their passages, in the place of another model's; None: no more came.

    What somebody holds or what lacks a vector is passed over, and found by another round.
    """
    rows = connection.execute(
        text(
            "with chosen as materialized ("
            " select p.document_id, p.ordinal from passages p"
            " where (p.document_id, p.ordinal) > (:after_document, :after_ordinal)"
            " and (p.model, p.dimension) <> (:model, :dimension)"
            " order by p.document_id, p.ordinal limit :most for update skip locked"
            "), taken as ("
            " delete from embeddings e using chosen"
            " where e.document_id = chosen.document_id and e.ordinal = chosen.ordinal"
            " and e.model = :model and e.dimension = :dimension returning e.*"
            "), put as ("
            " update passages p set embedding = taken.embedding, model = taken.model, dimension = taken.dimension"
            " from taken where p.document_id = taken.document_id and p.ordinal = taken.ordinal"
            ") select document_id, ordinal from chosen order by document_id desc, ordinal desc limit 1"
        ),
        _model(kept) | {"after_document": after[0], "after_ordinal": after[1], "most": most},
    ).all()
    return (rows[0].document_id, rows[0].ordinal) if rows else None


def settled(connection: Connection, kept: Kept) -> bool:
    """Whether every passage has this model's vector beside it, and nothing of another one is left."""
    statement = text(
        "select not exists (select from passages where (model, dimension) <> (:model, :dimension))"
        " and not exists (select from embeddings)"
    )
    return bool(connection.execute(statement, _model(kept)).scalar_one())


def clear(connection: Connection, kept: Kept, most: int) -> int:
    """Take away some vectors that no passage needs beside this model's own; how many there were."""
    statement = text(
        "delete from embeddings where (document_id, ordinal, model) in"
        " (select e.document_id, e.ordinal, e.model from embeddings e join passages p using (document_id, ordinal)"
        " where (e.model, e.dimension) <> (:model, :dimension) or (p.model, p.dimension) = (:model, :dimension)"
        " limit :most for update of e skip locked)"
    )
    return connection.execute(statement, _model(kept) | {"most": most}).rowcount


def _put(connection: Connection, kept: Kept, rows: Sequence[tuple[UUID, int, str | None, Vector]]) -> None:
    # Held, so that a passage deleted at this moment is passed over and does not end the work of a whole batch.
    connection.execute(
        text(
            "with there as materialized ("
            " select p.document_id, p.ordinal, given.embedding"
            " from unnest(cast(:documents as uuid[]), cast(:ordinals as int[]), cast(:versions as text[]),"
            " cast(:embeddings as bytea[])) as given (document_id, ordinal, version, embedding)"
            " join passages p on p.document_id = given.document_id and p.ordinal = given.ordinal"
            " and (given.version is null or p.xmin::text = given.version) for key share of p"
            ") insert into embeddings (document_id, ordinal, model, dimension, embedding)"
            " select document_id, ordinal, :model, :dimension, embedding from there on conflict do nothing"
        ),
        _model(kept)
        | {
            "documents": [document for document, _, _, _ in rows],
            "ordinals": [ordinal for _, ordinal, _, _ in rows],
            "versions": [version for _, _, version, _ in rows],
            "embeddings": [vector.astype("<f4").tobytes() for _, _, _, vector in rows],
        },
    )


def _model(kept: Kept) -> dict[str, Any]:
    return {"model": kept.model, "dimension": kept.dimension}
