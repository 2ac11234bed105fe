"""Collections: what documents are kept in, and what access is given to."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.context import By, Editor, Here, Me, Name, NewId, found_in, readable
from app.api.paging import After, Limit, Page, page, place_of
from app.api.problems import Problem
from app.store import audit, collections, documents, removal
from app.store.collections import Collection
from app.store.grants import Permission

router = APIRouter(prefix="/api/v1", tags=["collections"])


class NewCollection(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "manuals"}})
    name: Name


class CollectionShown(BaseModel):
    """A collection as one may use it."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "manuals", "permission": "write", "documents": {"indexed": 240}}}
    )
    name: str
    permission: Permission = Field(description="What one may do with it.")
    documents: dict[str, int] = Field(description="How many of its documents are in each state; none are left out.")


@router.get("/collections")
def list_collections(me: Me, here: Here, after: After = "", limit: Limit = 100) -> Page[CollectionShown]:
    """The collections one may read, by name."""
    place = place_of(after, 1)
    behind = place[0] if place else ""
    # In an order of our own: the database's may be another, by the language it was made with.
    every = sorted(here.fresh(lambda connection: collections.visible(connection, me)), key=lambda one: one.name)
    rows = [collection for collection in every if collection.name > behind][: limit + 1]
    states = here.fresh(lambda connection: documents.states(connection, [collection.id for collection in rows]))
    return page(rows, limit, lambda row: (row.name,), lambda row: _shown(row, states[row.id]))


@router.post("/collections", status_code=201)
async def add_collection(me: Editor, by: By, here: Here, new_id: NewId, wanted: NewCollection) -> CollectionShown:
    """Make a collection; its maker manages it."""

    def work(connection: Connection) -> CollectionShown:
        made = collections.create(connection, me, wanted.name, new_id)
        if made is None:
            raise Problem(409, f"name = {wanted.name}; one not taken yet", "choose another name")
        audit.note(connection, by, "collection.create", f"collections/{made.name}")
        return _shown(made, {})

    return await here.write(work)


@router.get("/collections/{name}")
def show_collection(me: Me, here: Here, name: str) -> CollectionShown:
    """The collection and how many of its documents are in which state."""
    found = readable(here, me, name, fresh=True)
    return _shown(found, here.fresh(lambda connection: documents.states(connection, [found.id]))[found.id])


@router.delete("/collections/{name}", status_code=204)
async def delete_collection(me: Me, by: By, here: Here, name: str) -> None:
    """Delete the collection, its documents with all that is theirs and, on every host, their vectors.

    It is out of sight at once; one that broke off is gone on with every hour, or by deleting the name it then has.
    """
    found: list[Collection] = []

    def hide(connection: Connection) -> Collection:
        if found and collections.find(connection, me, name) is None:
            # Gone when it was there before: an earlier try was committed.
            return found[0]
        collection = found_in(connection, me, name, manage=True)
        found.append(collection)
        removal.hide(connection, collection.id)
        audit.note(connection, by, "collection.delete", f"collections/{name}")
        return collection

    gone = await here.write(hide)
    while await here.write(lambda connection: removal.take_some(connection, gone.id)):
        pass
    await here.write(lambda connection: removal.finish(connection, gone.id))


def _shown(collection: Collection, states: dict[str, int]) -> CollectionShown:
    return CollectionShown(name=collection.name, permission=collection.permission, documents=states)
