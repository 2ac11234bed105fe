"""Documents: upload, state, source, passages, deletion."""

import hashlib
import unicodedata
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from sqlalchemy import Connection

from app.answer.ask import described
from app.api.context import By, Here, Me, NewId, document_of, found_in, readable
from app.api.document_shapes import DocumentShown, PassageShown, documents_shown
from app.api.download import RESPONSES, downloaded
from app.api.paging import After, Limit, Page, page, place_of
from app.api.problems import Problem, key_of_another_request, not_found
from app.api.storage import bounded, held, refuse_beyond
from app.api.upload import FORM, SentFile
from app.store import audit, collections, documents, passages, removal
from app.store.audit import Actor
from app.store.database import reading
from app.store.documents import GIVEN_UP, UNDER_WAY, Document, State, Upload
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["documents"])


@router.post("/collections/{name}/documents", status_code=202, openapi_extra=FORM)
async def upload(me: Me, by: By, here: Here, new_id: NewId, name: str, file: SentFile) -> DocumentShown:
    """Store a document; it becomes searchable a little later, as its state tells."""
    most, quota = here.settings.upload.max_bytes, here.settings.quota

    def work(connection: Connection) -> DocumentShown:
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
        if not removal.hold(connection, collection.id):
            raise not_found("collection", name)
        before = held(connection, me, quota)
        stored = documents.store(connection, wanted)
        if stored is None:
            raise key_of_another_request()
        refuse_beyond(connection, me, quota, before)
        detail = {"collection": name, "file_name": stored.file_name, "sha256": stored.sha256}
        audit.note(connection, by, "document.upload", f"documents/{stored.id}", detail)
        return _shown(connection, stored)

    return await here.write(work, me.id if bounded(quota) else None)


@router.get("/collections/{name}/documents")
def list_documents(
    me: Me, here: Here, name: str, after: After = "", limit: Limit = 100, state: State | None = None
) -> Page[DocumentShown]:
    """The collection's documents by file name, those of one state if it is given."""
    collection = readable(here, me, name, fresh=True)
    place = place_of(after, 2)

    def work(connection: Connection) -> list[DocumentShown]:
        found = documents.of_collection(connection, collection.id, limit + 1, place, state)
        return documents_shown(connection, found)

    return page(here.fresh(work), limit, lambda row: (row.file_name, str(row.id)), lambda row: row)


@router.get("/documents/{document_id}")
def show_document(me: Me, here: Here, document_id: UUID) -> DocumentShown:
    """The document's state, progress, error and number of passages, and where it can be found."""
    found = document_of(here, me, document_id)
    return reading(here.replica, lambda connection: _shown(connection, found))


@router.post("/documents/{document_id}/retry", status_code=202)
async def retry(me: Me, by: By, here: Here, document_id: UUID) -> DocumentShown:
    """Give a failed or cancelled document another round; one that is on its way goes on."""
    queued: list[UUID] = []

    def work(connection: Connection) -> DocumentShown:
        document = _held(connection, me, document_id)
        if document.state in GIVEN_UP:
            queued.append(document.id)
            documents.queue_again(connection, document)
            _note(connection, by, "retry", document)
        elif document.state not in UNDER_WAY and not queued:
            raise Problem(409, f"state = {document.state}; failed or cancelled", "upload a new version instead")
        return _shown(connection, documents.find(connection, document_id) or document)

    return await here.write(work)


@router.post("/documents/{document_id}/cancel", status_code=202)
async def cancel(me: Me, by: By, here: Here, document_id: UUID) -> DocumentShown:
    """End the way of a document that is not indexed yet; what it had done so far is forgotten."""

    def work(connection: Connection) -> DocumentShown:
        document = _held(connection, me, document_id)
        if document.state in UNDER_WAY:
            documents.cancel(connection, document)
            _note(connection, by, "cancel", document)
        elif document.state != "cancelled":
            raise Problem(409, f"state = {document.state}; queued, parsing or embedding", "DELETE removes it")
        return _shown(connection, documents.find(connection, document_id) or document)

    return await here.write(work)


@router.get("/documents/{document_id}/source", response_class=Response, responses=RESPONSES)
def source(
    request: Request,
    me: Me,
    by: By,
    here: Here,
    document_id: UUID,
    _: Annotated[
        str, Header(alias="Range", description="One part, ``bytes=0-1023``; for the rest after a break.")
    ] = "",
) -> Response:
    """The bytes as uploaded, or one part of them; always as an attachment."""
    document = document_of(here, me, document_id)
    answer = downloaded(request, here, document)
    # A download in parts, or a loop of them, is one entry: others wait in the same line, sign-ins above all.
    if here.downloads.is_new(me.id, document.id):
        here.later.write("download", lambda connection: _note(connection, by, "download", document))
    return answer


@router.get("/documents/{document_id}/passages/{ordinal}")
def passage(me: Me, here: Here, document_id: UUID, ordinal: int) -> PassageShown:
    """One passage, as cited."""
    document_of(here, me, document_id)
    found = reading(here.replica, lambda connection: passages.one(connection, document_id, ordinal))
    if found is None:
        raise not_found("passage", f"{document_id}/{ordinal}")
    return PassageShown(**described(found), text=found.text)


@router.delete("/documents/{document_id}", status_code=204)
async def delete(me: Me, by: By, here: Here, document_id: UUID) -> None:
    """Remove the document, its passages and, on every host, its vectors."""
    found: list[UUID] = []

    def work(connection: Connection) -> None:
        try:
            document = _held(connection, me, document_id)
        except Problem as problem:
            # Gone when it was there before: an earlier try was committed, or somebody else was faster.
            if found and problem.status == HTTPStatus.NOT_FOUND:
                return
            raise
        found.append(document.id)
        documents.delete(connection, document)
        _note(connection, by, "delete", document)

    await here.write(work)


def _shown(connection: Connection, document: Document) -> DocumentShown:
    return documents_shown(connection, [document])[0]


def _held(connection: Connection, me: User, document_id: UUID) -> Document:
    """The document, held until the transaction ends, if the user may change it."""
    document = documents.locked(connection, document_id)
    collection = collections.holding(connection, me, document.collection_id) if document else None
    if document is None or collection is None:
        raise not_found("document", document_id)
    if not collection.may("write"):
        raise Problem(403, f"collection = {collection.name}; write permission", "ask who manages it for a grant")
    return document


def _note(connection: Connection, by: Actor, action: str, document: Document) -> None:
    detail = {"collection": document.collection, "file_name": document.file_name}
    audit.note(connection, by, f"document.{action}", f"documents/{document.id}", detail)


def _file_name(given: str) -> str:
    """The last part of the name a browser sent, without control characters."""
    last = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:255] or "unnamed"
