"""The change feed: what each host's index must still apply, in an order that late commits cannot break."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text

CHANNEL = "rag_changes"

Kind = Literal["indexed", "deleted", "embedded"]


@dataclass(frozen=True)
class Position:
    """The last change applied; the token tells a restored database's row from the one that was applied."""

    xid: int = 0
    seq: int = 0
    token: str = ""


@dataclass(frozen=True)
class Change:
    position: Position
    collection_id: UUID
    document_id: UUID
    kind: Kind
    passages: int
    # Whose vectors came, where only those of one model did.
    slot: str | None = None


def append(
    connection: Connection,
    kind: Kind,
    collection_id: UUID,
    document_id: UUID,
    passages: int,
    token: UUID | None = None,
) -> None:
    """Tell every index of a document that came or went, once this transaction commits."""
    connection.execute(
        text(
            "with told as (insert into changes (collection_id, document_id, kind, passages, token)"
            " values (:collection, :document, :kind, :passages, :token)) select pg_notify(:channel, '')"
        ),
        {
            "collection": collection_id,
            "document": document_id,
            "kind": kind,
            "passages": passages,
            "token": token or uuid4(),
            "channel": CHANNEL,
        },
    )


def append_deletions(connection: Connection, collection_id: UUID, passages: Mapping[UUID, int]) -> None:
    """Tell every index of all these documents that went, each with the number of its passages.

    Followers of every release know this kind of change; one for the whole collection would leave the vectors with those
    that do not know it, as during a deploy.
    """
    connection.execute(
        text(
            "insert into changes (collection_id, document_id, kind, passages)"
            " select :collection, document_id, 'deleted', passages"
            " from unnest(cast(:documents as uuid[]), cast(:passages as int[])) as gone (document_id, passages)"
        ),
        {"collection": collection_id, "documents": list(passages), "passages": list(passages.values())},
    )
    connection.execute(text(f"select pg_notify('{CHANNEL}', '')"))


def append_embedded(connection: Connection, slot: str, documents: Sequence[Row[Any]]) -> None:
    """Tell the indexes of this slot of documents whose vectors are whole now: collection, document, passages each.

    Documents themselves did not change, so nobody waits for these to know where one can be found.
    """
    if not documents:
        return
    connection.execute(
        text(
            "insert into changes (collection_id, document_id, kind, passages, slot)"
            " select collection_id, document_id, 'embedded', passages, :slot"
            " from unnest(cast(:collections as uuid[]), cast(:documents as uuid[]), cast(:passages as int[]))"
            " as whole (collection_id, document_id, passages)"
        ),
        {
            "slot": slot,
            "collections": [row.collection_id for row in documents],
            "documents": [row.document_id for row in documents],
            "passages": [row.passages for row in documents],
        },
    )
    connection.execute(text(f"select pg_notify('{CHANNEL}', '')"))


def last_embedded(connection: Connection, slot: str) -> Position:
    """The last change that told of whole vectors of this slot."""
    row = connection.execute(
        text(
            "select xid::text::bigint as xid, seq, token from changes where kind = 'embedded' and slot = :slot"
            " order by changes.xid desc, seq desc limit 1"
        ),
        {"slot": slot},
    ).one_or_none()
    return Position(row.xid, row.seq, str(row.token)) if row else Position()


def lacks_embedded(connection: Connection, position: Position, slot: str) -> bool:
    """Whether vectors of this slot that were told of lie behind the position."""
    statement = text(
        "select exists (select from changes where (xid, seq) > (cast(cast(:xid as text) as xid8), :seq)"
        " and kind = 'embedded' and slot = :slot)"
    )
    parameters = {"xid": str(position.xid), "seq": position.seq, "slot": slot}
    return bool(connection.execute(statement, parameters).scalar_one())


def told(connection: Connection, token: UUID) -> bool:
    """Whether the change of this token was committed; slow, and only asked when its answer got lost."""
    statement = text("select exists (select from changes where token = :token)")
    return bool(connection.execute(statement, {"token": token}).scalar_one())


def after(connection: Connection, position: Position, limit: int) -> list[Change]:
    """The next changes in order, none of which a transaction still running could yet precede."""
    rows = connection.execute(
        text(
            "select xid::text::bigint as xid, seq, token, collection_id, document_id, kind, passages, slot"
            " from changes where (xid, seq) > (cast(cast(:xid as text) as xid8), :seq)"
            " and xid < pg_snapshot_xmin(pg_current_snapshot())"
            " order by changes.xid, seq limit :limit"
        ),
        {"xid": str(position.xid), "seq": position.seq, "limit": limit},
    )
    return [
        Change(
            Position(row.xid, row.seq, str(row.token)),
            row.collection_id,
            row.document_id,
            row.kind,
            row.passages,
            row.slot,
        )
        for row in rows
    ]


def count_after(connection: Connection, position: Position, at_most: int, slot: str) -> int:
    """How many changes lie behind the position that concern this slot, counted no further than ``at_most``."""
    statement = text(
        "select count(*) from (select 1 from changes where (xid, seq) > (cast(cast(:xid as text) as xid8), :seq)"
        " and coalesce(slot, :slot) = :slot limit :at_most) as waiting"
    )
    parameters = {"xid": str(position.xid), "seq": position.seq, "at_most": at_most, "slot": slot}
    return int(connection.execute(statement, parameters).scalar_one())


def knows(connection: Connection, position: Position) -> bool:
    """False when this database never had the change at the position: it was restored to an earlier time."""
    if not position.token:
        return True
    statement = text("select 1 from changes where seq = :seq and token = cast(:token as uuid)")
    return connection.execute(statement, {"seq": position.seq, "token": position.token}).scalar_one_or_none() == 1
