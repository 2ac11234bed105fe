"""How far each host's index has come, as the hosts told the primary, and so where a document can be found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.changes import Position
from app.store.documents import Document

# The reader, as whom rag-index signs in, may execute this and write nothing else.
TELL = "tell_index_position(text, xid8, bigint, uuid)"

TELL_SLOT = "tell_index_slot(text, text, xid8, bigint, boolean)"

# A host that was silent for longer is switched off or gone for good.
SEEN_MINUTES = 10

# Whoever is further behind is filled anew, for all that matters to a person.
MOST_BEHIND = 10_000


# Told in the place of how far a host is with a model that its site's file does not name.
WITHOUT_MODEL = Position(xid=0, seq=-1)


def tell(connection: Connection, host: str, position: Position) -> None:
    """Keep the host's position, and that it is there."""
    connection.execute(
        text("select tell_index_position(:host, cast(:xid as xid8), :seq, cast(:token as uuid))"),
        {"host": host, "xid": str(position.xid), "seq": position.seq, "token": position.token or None},
    )


def tell_slot(connection: Connection, host: str, slot: str, position: Position, *, filled: bool) -> None:
    """Keep how far the host is with the vectors of one model."""
    connection.execute(
        text("select tell_index_slot(:host, :slot, cast(:xid as xid8), :seq, :filled)"),
        {"host": host, "slot": slot, "xid": str(position.xid), "seq": position.seq, "filled": filled},
    )


@dataclass(frozen=True)
class OfHost:
    """How a host's index stands with one model; ``filled`` is None where the host said nothing of that model."""

    host: str
    filled: bool | None
    position: tuple[int, int]
    # Whether the host can embed a question with the model.
    embeds: bool
    # Whether its release knows of models at all.
    knows: bool


def of_hosts(connection: Connection, slot: str) -> list[OfHost]:
    """Every host that is there."""
    rows = connection.execute(
        text(
            "select h.host, s.filled, coalesce(s.xid::text::bigint, 0) as xid, coalesce(s.seq, 0) as seq,"
            " exists (select from index_slots o where o.host = h.host"
            " and o.seen_at > now() - make_interval(mins => :minutes)) as knows"
            " from index_positions h left join index_slots s on s.host = h.host and s.slot = :slot"
            " and s.seen_at > now() - make_interval(mins => :minutes)"
            " where h.seen_at > now() - make_interval(mins => :minutes) order by h.host"
        ),
        {"slot": slot, "minutes": SEEN_MINUTES},
    )
    without = (WITHOUT_MODEL.xid, WITHOUT_MODEL.seq)
    return [OfHost(row.host, row.filled, (row.xid, row.seq), (row.xid, row.seq) != without, row.knows) for row in rows]


def searchable_on(connection: Connection, documents: Sequence[Document]) -> dict[UUID, dict[str, bool]]:
    """For each document, on which of the hosts that are there its passages are in the index."""
    hosts = _hosts(connection)
    indexed = _indexed(connection, [document.id for document in documents if document.state == "indexed"])
    return {
        document.id: {
            host: document.id in indexed and indexed[document.id] <= position for host, position in hosts.items()
        }
        for document in documents
    }


@dataclass(frozen=True)
class Lag:
    """How many changes a host's index has still to apply, since when the first of them waits, and when it told so."""

    host: str
    behind: int
    since: datetime | None
    seen_at: datetime


def lags(connection: Connection) -> list[Lag]:
    """The hosts that are there, by name; nobody's changes are counted beyond MOST_BEHIND."""
    rows = connection.execute(
        text(
            "select host, behind, since, seen_at from index_positions told cross join lateral ("
            " select count(*) as behind, min(created_at) as since from (select created_at from changes"
            " where (changes.xid, changes.seq) > (told.xid, told.seq) order by changes.xid, changes.seq limit :most"
            ") as waiting) as lag where seen_at > now() - make_interval(mins => :minutes) order by host"
        ),
        {"most": MOST_BEHIND, "minutes": SEEN_MINUTES},
    )
    return [Lag(**row._mapping) for row in rows]


def silence(connection: Connection) -> dict[str, float]:
    """For how many seconds each host has told nothing; one that was not there for a week is not expected back."""
    rows = connection.execute(
        text(
            "select host, extract(epoch from now() - seen_at) as seconds from index_positions"
            " where seen_at > now() - interval '7 days'"
        )
    )
    return {row.host: float(row.seconds) for row in rows}


def _hosts(connection: Connection) -> dict[str, tuple[int, int]]:
    rows = connection.execute(
        text(
            "select host, xid::text::bigint as xid, seq from index_positions"
            " where seen_at > now() - make_interval(mins => :minutes) order by host"
        ),
        {"minutes": SEEN_MINUTES},
    )
    return {row.host: (row.xid, row.seq) for row in rows}


def _indexed(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """The place in the change feed at which each document became what it is."""
    rows = connection.execute(
        text(
            "select distinct on (document_id) document_id, xid::text::bigint as xid, seq from changes"
            " where document_id = any(:ids) and kind = 'indexed' order by document_id, changes.xid desc, seq desc"
        ),
        {"ids": list(ids)},
    )
    return {row.document_id: (row.xid, row.seq) for row in rows}
