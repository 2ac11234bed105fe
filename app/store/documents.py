"""Documents from upload to deletion: their bytes, their state, and what a person is told about it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.store import changes, jobs

State = Literal["queued", "working", "indexed", "failed"]

_SELECT = """
select d.id, d.collection_id, d.title, d.file_name, d.media_type, d.sha256, d.size, d.state, d.error, d.created_at,
d.changed_at, (select count(*) from passages p where p.document_id = d.id) as passages
from documents d
"""


@dataclass(frozen=True)
class Document:
    id: UUID
    collection_id: UUID
    title: str
    file_name: str
    media_type: str
    sha256: str
    size: int
    state: State
    error: str | None
    created_at: datetime
    changed_at: datetime
    passages: int


@dataclass(frozen=True)
class Place:
    """Where in a collection's list a document stands, whether it is still there or not."""

    file_name: str
    id: UUID


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
    """Keep the bytes with a job to index them; the same bytes again are the same document, a failed one is retried.

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
                "update documents set state = case when state = 'failed' and id <> :id then 'queued' else state end"
                " where collection_id = :collection and sha256 = :sha256 returning id"
            ),
            {"id": upload.id, "collection": upload.collection_id, "sha256": upload.sha256},
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


def of_collection(
    connection: Connection, collection_id: UUID, limit: int, after: Place | None = None
) -> list[Document]:
    """The collection's documents by file name, those behind ``after``; equal names have an order too."""
    behind = "and (d.file_name, d.id) > (:name, :id) " if after else ""
    statement = text(_SELECT + f"where d.collection_id = :collection {behind}order by d.file_name, d.id limit :limit")
    parameters = {"collection": collection_id, "limit": limit}
    if after:
        parameters |= {"name": after.file_name, "id": after.id}
    return [_document(row) for row in connection.execute(statement, parameters)]


def states(connection: Connection, collection_id: UUID) -> dict[str, int]:
    """How many documents of the collection are in each state."""
    statement = text("select state, count(*) as documents from documents where collection_id = :id group by state")
    return {row.state: row.documents for row in connection.execute(statement, {"id": collection_id})}


def source(connection: Connection, document_id: UUID) -> bytes:
    """The bytes as they were uploaded."""
    statement = text("select source from documents where id = :id")
    return bytes(connection.execute(statement, {"id": document_id}).scalar_one())


def mark(connection: Connection, document_id: UUID, state: State, error: str | None = None) -> None:
    """Say where the document is on its way, and what stands in it."""
    statement = text("update documents set state = :state, error = :error, changed_at = now() where id = :id")
    connection.execute(statement, {"id": document_id, "state": state, "error": error})


def publish(connection: Connection, document_id: UUID, title: str) -> None:
    """Make the document's passages visible under its title."""
    statement = text(
        "update documents set state = 'indexed', error = null, title = :title, changed_at = now() where id = :id"
    )
    connection.execute(statement, {"id": document_id, "title": title[:500]})


def delete(connection: Connection, document: Document) -> None:
    """Remove the document, its passages and its job; the indexes are told."""
    connection.execute(text("delete from documents where id = :id"), {"id": document.id})
    if document.passages:
        changes.append(connection, "deleted", document.collection_id, document.id, document.passages)


def earlier_versions(connection: Connection, document: Document) -> list[Document]:
    """Documents that came under the same file name before this one; all of the name are held until the end."""
    parameters = {"collection": document.collection_id, "name": document.file_name}
    connection.execute(
        text("select 1 from documents where collection_id = :collection and file_name = :name order by id for update"),
        parameters,
    )
    # A second statement sees what was committed while the first one waited.
    statement = text(
        _SELECT + "where d.collection_id = :collection and d.file_name = :name"
        " and (d.created_at, d.id) < (:created_at, :id)"
    )
    parameters |= {"created_at": document.created_at, "id": document.id}
    return [_document(row) for row in connection.execute(statement, parameters)]


def _document(row: Row[Any]) -> Document:
    return Document(**row._mapping)
