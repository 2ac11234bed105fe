"""Documents from upload to deletion: their bytes, their state, and what a person is told about it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.store import changes, jobs
from app.store.jobs import Job

State = Literal["queued", "parsing", "embedding", "indexed", "failed", "cancelled"]

# On its way to a state in which it stays.
UNDER_WAY: frozenset[State] = frozenset({"queued", "parsing", "embedding"})
# Given up, until somebody asks for another try.
GIVEN_UP: frozenset[State] = frozenset({"failed", "cancelled"})

# A worker of before this release, at work during a deploy, calls both of its steps by one name.
_OLD_NAMES: dict[str, State] = {"working": "parsing"}

_SELECT = """
select d.id, d.collection_id, c.name as collection, d.title, d.file_name, d.media_type, d.sha256, d.size, d.state,
d.done, d.total, d.error, d.created_at, d.changed_at,
(select count(*) from passages p where p.document_id = d.id) as passages
from documents d join collections c on c.id = d.collection_id
"""


@dataclass(frozen=True)
class Document:
    id: UUID
    collection_id: UUID
    collection: str
    title: str
    file_name: str
    media_type: str
    sha256: str
    size: int
    state: State
    done: int | None
    total: int | None
    error: str | None
    created_at: datetime
    changed_at: datetime
    passages: int


@dataclass(frozen=True)
class Upload:
    """A document to keep, with the id from which a repeated write knows its own work."""

    id: UUID
    collection_id: UUID
    user_id: UUID
    file_name: str
    media_type: str
    sha256: str
    content: bytes


def store(connection: Connection, upload: Upload) -> Document | None:
    """Keep the bytes with a job to index them; the same bytes again are the same document, one given up is retried.

    None: the id is another document's.
    """
    document_id = connection.execute(
        text(
            "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, created_by)"
            " values (:id, :collection, :name, :name, :media_type, :sha256, :size, :source, :user)"
            " on conflict do nothing returning id"
        ),
        {
            "id": upload.id,
            "collection": upload.collection_id,
            "name": upload.file_name,
            "media_type": upload.media_type,
            "sha256": upload.sha256,
            "size": len(upload.content),
            "source": upload.content,
            "user": upload.user_id,
        },
    ).scalar_one_or_none()
    if document_id is None:
        document_id = connection.execute(
            text(
                # Under our own id an earlier try of this upload stored it, and nobody asked for another round since.
                "update documents set state = case when id <> :id and state = any(:given_up) then 'queued'"
                " else state end where collection_id = :collection and sha256 = :sha256 returning id"
            ),
            {
                "id": upload.id,
                "collection": upload.collection_id,
                "sha256": upload.sha256,
                "given_up": list(GIVEN_UP),
            },
        ).scalar_one_or_none()
    document = find(connection, document_id) if document_id else None
    if document and document.state == "queued":
        jobs.add(connection, document.id)
    return document


def find(connection: Connection, document_id: UUID) -> Document | None:
    """The document without its bytes."""
    statement = text(_SELECT + "where d.id = :id")
    row = connection.execute(statement, {"id": document_id}).one_or_none()
    return _document(row) if row else None


def locked(connection: Connection, document_id: UUID) -> Document | None:
    """The document, held against every other change until this transaction ends."""
    connection.execute(text("select 1 from documents where id = :id for update"), {"id": document_id})
    return find(connection, document_id)


def hold(connection: Connection, ids: Sequence[UUID]) -> None:
    """Hold the documents, in the order of their ids, against every other change until this transaction ends."""
    statement = text("select 1 from documents where id = any(:ids) order by id for update")
    connection.execute(statement, {"ids": list(ids)})


def with_sources(connection: Connection, ids: Collection[UUID]) -> dict[UUID, tuple[Document, bytes]]:
    """Those of the documents that are there, with their bytes as they were uploaded."""
    sources = text("select id, source from documents where id = any(:ids)")
    content = {row.id: bytes(row.source) for row in connection.execute(sources, {"ids": list(ids)})}
    rows = connection.execute(text(_SELECT + "where d.id = any(:ids)"), {"ids": list(content)})
    return {row.id: (_document(row), content[row.id]) for row in rows}


def of_collection(
    connection: Connection,
    collection_id: UUID,
    limit: int,
    after: tuple[str, ...] | None = None,
    state: State | None = None,
) -> list[Document]:
    """The collection's documents by file name, those behind ``after``, a name and an id; equal names have an order."""
    behind = "and (d.file_name, d.id) > (:name, cast(:id as uuid)) " if after else ""
    fitting = "and d.state = any(:states) " if state else ""
    statement = text(
        _SELECT + f"where d.collection_id = :collection {behind}{fitting}order by d.file_name, d.id limit :limit"
    )
    parameters: dict[str, Any] = {"collection": collection_id, "limit": limit}
    if after:
        parameters |= {"name": after[0], "id": after[1]}
    if state:
        parameters |= {"states": [state, *(old for old, new in _OLD_NAMES.items() if new == state)]}
    return [_document(row) for row in connection.execute(statement, parameters)]


def states(connection: Connection, collection_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """How many documents of each collection are in each state."""
    statement = text(
        "select collection_id, state, count(*) as documents from documents where collection_id = any(:ids)"
        " group by collection_id, state"
    )
    counted: dict[UUID, dict[str, int]] = {collection_id: {} for collection_id in collection_ids}
    for row in connection.execute(statement, {"ids": list(collection_ids)}):
        state = _OLD_NAMES.get(row.state, row.state)
        counted[row.collection_id][state] = counted[row.collection_id].get(state, 0) + row.documents
    return counted


def size(connection: Connection, document_id: UUID) -> int:
    """How many bytes were uploaded."""
    return int(connection.execute(text("select size from documents where id = :id"), {"id": document_id}).scalar_one())


def piece(connection: Connection, document_id: UUID, start: int, length: int) -> bytes | None:
    """So many of the bytes from ``start`` on; None when the document is not there."""
    statement = text("select substring(source from :first for :length) from documents where id = :id")
    parameters = {"id": document_id, "first": start + 1, "length": length}
    found = connection.execute(statement, parameters).scalar_one_or_none()
    return None if found is None else bytes(found)


def mark(
    connection: Connection, document_id: UUID, state: State, error: str | None = None, total: int | None = None
) -> None:
    """Say where the document is on its way, what stands in it, and how many passages are to be embedded."""
    mark_all(connection, {document_id: total}, state, error)


def mark_all(connection: Connection, totals: Mapping[UUID, int | None], state: State, error: str | None = None) -> None:
    """The same of several."""
    statement = text(
        "update documents d set state = :state, error = :error, done = case when given.total >= 0 then 0 end,"
        " total = given.total, changed_at = now()"
        " from unnest(cast(:ids as uuid[]), cast(:totals as int[])) as given (id, total) where d.id = given.id"
    )
    given = {"ids": list(totals), "totals": list(totals.values()), "state": state, "error": error}
    connection.execute(statement, given)


def count_done(connection: Connection, job: Job, done: int) -> bool:
    """Say how many passages are embedded; False when the document is no longer the job's."""
    statement = text(
        "update documents set done = :done where id = :id and state = 'embedding'"
        " and exists (select from jobs j where j.id = :job and j.owner = :owner)"
    )
    parameters = {"id": job.document_id, "done": done, "job": job.id, "owner": job.owner}
    return connection.execute(statement, parameters).rowcount == 1


def queue_again(connection: Connection, document: Document) -> None:
    """Give the document another round."""
    mark(connection, document.id, "queued")
    jobs.add(connection, document.id)


def cancel(connection: Connection, document: Document) -> None:
    """End the document's way: its job is gone, and whoever works on it finds that out and writes nothing."""
    jobs.drop(connection, document.id)
    mark(connection, document.id, "cancelled")


def publish(connection: Connection, document_id: UUID, title: str) -> None:
    """Make the document's passages visible under its title."""
    statement = text(
        "update documents set state = 'indexed', error = null, done = null, total = null, title = :title,"
        " changed_at = now() where id = :id"
    )
    connection.execute(statement, {"id": document_id, "title": title[:500]})


def delete(connection: Connection, document: Document) -> None:
    """Remove the document, its passages and its job; the indexes are told."""
    connection.execute(text("delete from documents where id = :id"), {"id": document.id})
    if document.passages:
        changes.append(connection, "deleted", document.collection_id, document.id, document.passages)


def hold_versions(connection: Connection, several: Sequence[Document]) -> None:
    """Hold all documents that came under the file names of these until the end, in the order of their ids."""
    statement = text(
        "select 1 from documents where (collection_id, file_name) in"
        " (select * from unnest(cast(:collections as uuid[]), cast(:names as text[]))) order by id for update"
    )
    names = {"collections": [one.collection_id for one in several], "names": [one.file_name for one in several]}
    connection.execute(statement, names)


def earlier_versions(connection: Connection, document: Document) -> list[Document]:
    """Documents that came under the same file name before this one; who calls holds them."""
    statement = text(
        _SELECT + "where d.collection_id = :collection and d.file_name = :name"
        " and (d.created_at, d.id) < (:created_at, :id)"
    )
    parameters = {"collection": document.collection_id, "name": document.file_name}
    rows = connection.execute(statement, parameters | {"created_at": document.created_at, "id": document.id})
    return [_document(row) for row in rows]


def _document(row: Row[Any]) -> Document:
    state = _OLD_NAMES.get(row.state, row.state)
    return Document(**{**row._mapping, "state": state})
