"""Which passages an index should hold, looked through a part at a time, to compare the index with."""

import re
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.changes import Position
from app.store.passages import passage_id

_OURS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:\d{1,9}")
START = (UUID(int=0), -1)
Key = tuple[UUID, int]


def collections(connection: Connection) -> list[UUID]:
    """Every collection there is."""
    return [row.id for row in connection.execute(text("select id from collections order by id"))]


def expected(connection: Connection, collection_id: UUID, position: Position, after: Key, most: int) -> list[Key]:
    """The next passages that an index at this position should hold; what a later change touches is not among them."""
    rows = connection.execute(
        text(
            "select document_id, ordinal from passages p"
            " where collection_id = :collection and (document_id, ordinal) > (:document, :ordinal)"
            " and not exists (select from changes c where c.document_id = p.document_id"
            " and (c.xid, c.seq) > (cast(cast(:xid as text) as xid8), :seq))"
            " order by document_id, ordinal limit :most"
        ),
        {
            "collection": collection_id,
            "document": after[0],
            "ordinal": after[1],
            "xid": str(position.xid),
            "seq": position.seq,
            "most": most,
        },
    )
    return [(row.document_id, row.ordinal) for row in rows]


def existing(connection: Connection, collection_id: UUID, ids: Sequence[str]) -> set[str]:
    """Those of the passages that are there."""
    # An id that is none of ours belongs to no passage.
    pairs = [identifier.rsplit(":", 1) for identifier in ids if _OURS.fullmatch(identifier)]
    rows = connection.execute(
        text(
            "select p.document_id, p.ordinal from passages p"
            " join unnest(cast(:documents as uuid[]), cast(:ordinals as int[])) as wanted (document_id, ordinal)"
            " using (document_id, ordinal) where p.collection_id = :collection"
        ),
        {
            "collection": collection_id,
            "documents": [document for document, _ in pairs],
            "ordinals": [int(ordinal) for _, ordinal in pairs],
        },
    )
    return {passage_id(row.document_id, row.ordinal) for row in rows}
