"""What documents and passages look like to a client."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.store import positions
from app.store.documents import Document, State

_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
_TIME = "2026-11-27T09:00:00Z"


class Progress(BaseModel):
    done: int = Field(description="Passages embedded; told at most once a second.")
    total: int


class DocumentShown(BaseModel):
    """A document, from upload on."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": _ID,
                "collection": "manuals",
                "title": "The crane",
                "file_name": "crane.pdf",
                "media_type": "application/pdf",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "size": 482113,
                "state": "embedding",
                "progress": {"done": 32, "total": 118},
                "error": None,
                "passages": 0,
                "searchable_on": {"app1": False, "app2": False},
                "created_at": _TIME,
                "changed_at": _TIME,
            }
        }
    )
    id: UUID
    collection: str
    title: str
    file_name: str
    media_type: str
    sha256: str
    size: int
    state: State
    progress: Progress | None = Field(description="While it is being embedded.")
    error: str | None = Field(description="Why it failed or waits, in one line with what to do.")
    passages: int = Field(description="How many of its passages can be found.")
    searchable_on: dict[str, bool] = Field(
        description="For each app host of the last ten minutes, whether its index has the document."
    )
    created_at: datetime
    changed_at: datetime


class PassageShown(BaseModel):
    """A passage, as cited."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "document_id": _ID,
                "passage": 3,
                "title": "The crane",
                "section": "Use > Oil",
                "headings": ["Use", "Oil"],
                "page": 7,
                "place": {"page": 7},
                "url": f"/documents/{_ID}/passages/3",
                "text": "Oil the hook every week.",
            }
        }
    )
    document_id: UUID
    passage: int = Field(description="Its number within the document, from 0.")
    title: str
    section: str = Field(description="The headings in one line.")
    headings: list[str]
    page: int | None
    place: dict[str, Any] = Field(description="Where a reader looks: page, slide, or sheet and rows; may be empty.")
    url: str
    text: str


def documents_shown(connection: Connection, documents: Sequence[Document]) -> list[DocumentShown]:
    """The documents for a person."""
    searchable = positions.searchable_on(connection, documents)
    return [_shown(document, searchable[document.id]) for document in documents]


def _shown(document: Document, searchable: dict[str, bool]) -> DocumentShown:
    known = {name: getattr(document, name) for name in DocumentShown.model_fields if hasattr(document, name)}
    embedding = document.state == "embedding" and document.total is not None
    progress = Progress(done=document.done or 0, total=document.total or 0) if embedding else None
    return DocumentShown(**known, progress=progress, searchable_on=searchable)
