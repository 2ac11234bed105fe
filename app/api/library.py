"""Documents: upload, state, source, passages, deletion."""

import hashlib
import unicodedata
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Response, UploadFile
from sqlalchemy import Connection

from app.answer.ask import described
from app.api.context import By, Here, Me, NewId, document_of, found_in, readable
from app.api.limits import an_upload
from app.api.problems import Problem, key_of_another_request, not_found
from app.store import audit, collections, documents, passages
from app.store.database import reading
from app.store.documents import Document, Place, Upload

router = APIRouter(prefix="/api/v1", tags=["documents"])

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}

MOST_LISTED = 1000


@router.post("/collections/{name}/documents", status_code=202, dependencies=[Depends(an_upload)])
async def upload(me: Me, by: By, here: Here, new_id: NewId, name: str, file: UploadFile) -> dict[str, Any]:
    """Store a document; it becomes searchable a little later, as its state tells."""
    most = here.settings.upload.max_bytes

    def work(connection: Connection) -> Document:
        # Read here, by the few that write at a time: all that wait would fill the memory with their documents.
        file.file.seek(0)
        content = file.file.read(most + 1)
        collection = found_in(connection, me, name, write=True)
        if len(content) > most:
            raise Problem(413, f"file = more than {most} bytes; a smaller one", "split the document")
        wanted = Upload(
            id=new_id,
            collection_id=collection.id,
            user_id=me.id,
            file_name=_file_name(file.filename or ""),
            media_type=(file.content_type or "application/octet-stream")[:200],
            sha256=hashlib.sha256(content).hexdigest(),
            content=content,
        )
        stored = documents.store(connection, wanted)
        if stored is None:
            raise key_of_another_request()
        detail = {"collection": name, "file_name": stored.file_name, "sha256": stored.sha256}
        audit.note(connection, by, "document.upload", f"documents/{stored.id}", detail)
        return stored

    return shown(await here.write(work))


@router.get("/collections/{name}/documents")
def list_documents(me: Me, here: Here, name: str, after: str = "", limit: int = MOST_LISTED) -> dict[str, Any]:
    """The collection's documents by file name; ``next`` is the ``after`` of the next page."""
    collection = readable(here, me, name, fresh=True)
    most = min(max(limit, 1), MOST_LISTED)
    place = _place(after) if after else None
    found = here.fresh(lambda connection: documents.of_collection(connection, collection.id, most, place))
    following = f"{found[-1].id}/{found[-1].file_name}" if len(found) == most else None
    return {"documents": [shown(document) for document in found], "next": following}


@router.get("/documents/{document_id}")
def show_document(me: Me, here: Here, document_id: UUID) -> dict[str, Any]:
    """The document's state, error and number of passages."""
    return shown(document_of(here, me, document_id))


@router.get("/documents/{document_id}/source", response_class=Response, responses=BYTES)
def source(me: Me, here: Here, document_id: UUID) -> Response:
    """The bytes as uploaded, always as an attachment: a hostile page must not run under our name."""
    document = document_of(here, me, document_id)
    content = here.fresh(lambda connection: documents.source(connection, document_id))
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(document.file_name)}"}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/documents/{document_id}/passages/{ordinal}")
def passage(me: Me, here: Here, document_id: UUID, ordinal: int) -> dict[str, Any]:
    """One passage, as cited."""
    document_of(here, me, document_id)
    found = reading(here.replica, lambda connection: passages.one(connection, document_id, ordinal))
    if found is None:
        raise not_found("passage", f"{document_id}/{ordinal}")
    return {**described(found), "text": found.text}


@router.delete("/documents/{document_id}", status_code=204)
async def delete(me: Me, by: By, here: Here, document_id: UUID) -> None:
    """Remove the document, its passages and, on every host, its vectors."""
    found: list[UUID] = []

    def work(connection: Connection) -> None:
        document = documents.locked(connection, document_id)
        collection = collections.holding(connection, me, document.collection_id) if document else None
        if document is None or collection is None:
            # Gone when it was there before: an earlier try was committed, or somebody else was faster.
            if found:
                return
            raise not_found("document", document_id)
        if not collection.may("write"):
            raise Problem(403, f"collection = {collection.name}; write permission", "ask who manages it for a grant")
        found.append(document.id)
        documents.delete(connection, document)
        detail = {"collection": collection.name, "file_name": document.file_name}
        audit.note(connection, by, "document.delete", f"documents/{document_id}", detail)

    await here.write(work)


def shown(document: Document) -> dict[str, Any]:
    """The document for a person."""
    return {
        "id": str(document.id),
        "title": document.title,
        "file_name": document.file_name,
        "media_type": document.media_type,
        "sha256": document.sha256,
        "size": document.size,
        "state": document.state,
        "error": document.error,
        "passages": document.passages,
        "created_at": document.created_at.isoformat(),
        "changed_at": document.changed_at.isoformat(),
    }


def _place(after: str) -> Place:
    identifier, _, file_name = after.partition("/")
    try:
        return Place(file_name, UUID(identifier))
    except ValueError:
        raise Problem(422, f"after = {after}; the next of an earlier answer", "begin without after") from None


def _file_name(given: str) -> str:
    """The last part of the name a browser sent, without control characters."""
    last = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:255] or "unnamed"
