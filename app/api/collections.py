"""Collections: what documents are kept in, and what access is given to."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from app.api.context import By, Editor, Here, Me, Name, NewId, readable
from app.api.problems import Problem
from app.store import audit, collections, documents

router = APIRouter(prefix="/api/v1", tags=["collections"])


class NewCollection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


@router.get("/collections")
def list_collections(me: Me, here: Here) -> list[dict[str, Any]]:
    """The collections one may read."""
    found = here.fresh(lambda connection: collections.visible(connection, me))
    return [{"name": collection.name, "permission": collection.permission} for collection in found]


@router.post("/collections", status_code=201)
async def add_collection(me: Editor, by: By, here: Here, new_id: NewId, wanted: NewCollection) -> dict[str, Any]:
    """Make a collection; its maker manages it."""

    def work(connection: Connection) -> dict[str, Any]:
        made = collections.create(connection, me, wanted.name, new_id)
        if made is None:
            raise Problem(409, f"name = {wanted.name}; one not taken yet", "choose another name")
        audit.note(connection, by, "collection.create", f"collections/{made.name}")
        return {"name": made.name, "permission": made.permission}

    return await here.write(work)


@router.get("/collections/{name}")
def show_collection(me: Me, here: Here, name: str) -> dict[str, Any]:
    """The collection and how many of its documents are in which state."""
    found = readable(here, me, name, fresh=True)
    states = here.fresh(lambda connection: documents.states(connection, found.id))
    return {"name": found.name, "permission": found.permission, "documents": states}
