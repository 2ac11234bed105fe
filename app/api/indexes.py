"""How far each app host's index is: what was uploaded or deleted counts in its searches once it was applied there."""

from dataclasses import asdict
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.context import Here, Me
from app.store import positions

router = APIRouter(prefix="/api/v1", tags=["health"])


class IndexShown(BaseModel):
    """An app host's index."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "host": "app1",
                "behind": 12,
                "since": "2026-11-27T09:30:00Z",
                "seen_at": "2026-11-27T09:30:21Z",
            }
        }
    )
    host: str
    behind: int = Field(description=f"Changes it has still to apply, counted up to {positions.MOST_BEHIND}.")
    since: datetime | None = Field(description="When the first of them was made; null when it is in step.")
    seen_at: datetime = Field(description="When the host told how far it is; it does so once a minute at least.")


class Indexes(BaseModel):
    """The app hosts that were there in the last minutes, by name."""

    items: list[IndexShown]


@router.get("/indexes")
def list_indexes(me: Me, here: Here) -> Indexes:
    """How many changes each app host's index is behind, and since when."""
    return Indexes(items=[IndexShown(**asdict(lag)) for lag in here.fresh(positions.lags)])
