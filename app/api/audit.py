"""The audit, as administrators read it."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.context import Admin, Here
from app.api.paging import After, Limit, Page, page, time_and_id
from app.store import audit

router = APIRouter(prefix="/api/v1/audit", tags=["people"])


class EntryShown(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "at": "2026-11-27T08:30:00Z",
                "actor": "ada",
                "key": None,
                "action": "grant.give",
                "object": "collections/manuals",
                "detail": {"to": "groups/engineers", "permission": "write"},
                "request_id": "5f0c2b",
                "address": "192.0.2.17",
            }
        }
    )
    at: datetime
    actor: str = Field(description="The name of who did it; of a refused sign-in the name that was given.")
    key: str | None = Field(description="The API key by which it was done; null after a sign-in.")
    action: str
    object: str
    detail: dict[str, Any]
    request_id: str = Field(description="What the operator finds the request by in the journal.")
    address: str = Field(description="The client's, as the balancer saw it.")

    @classmethod
    def of(cls, entry: audit.Entry) -> Self:
        return cls.model_validate(entry, from_attributes=True)


@router.get("")
def list_entries(
    _: Admin,
    here: Here,
    actor: Annotated[str, Query(max_length=200, description="Only what this person did.")] = "",
    action: Annotated[str, Query(max_length=100, description="Only actions that begin so: ``user.``, ``grant``.")] = "",
    after: After = "",
    limit: Limit = 100,
) -> Page[EntryShown]:
    """Who did what, newest first."""
    place = time_and_id(after)
    found = here.fresh(lambda connection: audit.listed(connection, limit + 1, actor, action, place))
    return page(found, limit, lambda entry: (entry.at.isoformat(), str(entry.id)), EntryShown.of)
