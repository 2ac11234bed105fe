"""How much of the platform's room one has taken, and the bound on it."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.context import Here, Me
from app.api.problems import Problem
from app.settings import Quota
from app.store import quota
from app.store.quota import Stored
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["documents"])


class StorageShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"documents": 12, "bytes": 3400000, "most_documents": 1000, "most_bytes": 10000000000}
        }
    )
    documents: int = Field(description="That one uploaded and that are still there, in any state.")
    bytes: int
    most_documents: int | None = Field(description="Null: there is no bound.")
    most_bytes: int | None = Field(description="Null: there is no bound.")


@router.get("/me/storage")
def storage(me: Me, here: Here) -> StorageShown:
    """What one has uploaded, and how much that may be."""
    found = here.fresh(lambda connection: quota.stored(connection, me.id))
    most = here.settings.quota
    return StorageShown(
        documents=found.documents,
        bytes=found.bytes,
        most_documents=most.documents_per_person or None,
        most_bytes=most.bytes_per_person or None,
    )


def bounded(most: Quota) -> bool:
    """Whether there is a bound, so that what one person uploads comes one after the other."""
    return bool(most.documents_per_person or most.bytes_per_person)


def held(connection: Connection, me: User, most: Quota) -> Stored | None:
    """What the person has before an upload, held; None where there is no bound."""
    return quota.hold(connection, me.id) if bounded(most) else None


def refuse_beyond(connection: Connection, me: User, most: Quota, before: Stored | None) -> None:
    """Raise 403 when the upload took more than there was room for; the same bytes again take none."""
    if before is None:
        return
    after = quota.stored(connection, me.id)
    help_ = "delete documents of yours, or ask the operator for a larger quota; GET /api/v1/me/storage shows both"
    if most.documents_per_person and before.documents < after.documents > most.documents_per_person:
        told = f"documents = {after.documents} of yours with this one; at most {most.documents_per_person}"
        raise Problem(403, told, help_)
    if most.bytes_per_person and before.bytes < after.bytes > most.bytes_per_person:
        told = f"documents = {after.bytes} bytes of yours with this one; at most {most.bytes_per_person}"
        raise Problem(403, told, help_)
