"""The pages of whoever is signed in; what they show and do, they get and do through the API."""

from uuid import UUID

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from app.api.context import Admin, Here, Me, document_of, readable
from app.api.problems import not_found
from app.store import collections, passages, users
from app.store.database import reading
from app.web import provider, signing
from app.web.page import STATIC, OwnFiles, PageRoute, shown

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def install(app: FastAPI) -> None:
    """Add the pages, and the files that they are made of."""
    app.include_router(router)
    app.include_router(signing.router)
    app.include_router(provider.router)
    app.mount("/static", OwnFiles(directory=STATIC), name="static")


@router.get("/")
def ask(request: Request, here: Here, me: Me) -> Response:
    """The question box with the collections one may ask."""
    known = here.fresh(lambda connection: collections.visible(connection, me))
    return shown(request, "ask.html", me=me, collections=known)


@router.get("/documents/{document_id}/passages/{ordinal}")
def passage(request: Request, here: Here, me: Me, document_id: UUID, ordinal: int) -> Response:
    """The passage between its neighbours; the quote that the address's fragment names is marked in the browser."""
    document = document_of(here, me, document_id)
    wanted = [passages.passage_id(document_id, number) for number in (ordinal - 1, ordinal, ordinal + 1)]
    found = reading(here.replica, lambda connection: passages.by_ids(connection, None, wanted))
    near = {neighbour.ordinal: neighbour for neighbour in found}
    if ordinal not in near:
        raise not_found("passage", f"{document_id}/{ordinal}")
    return shown(
        request,
        "passage.html",
        me=me,
        document=document,
        passage=near[ordinal],
        previous=near.get(ordinal - 1),
        following=near.get(ordinal + 1),
    )


@router.get("/collections")
def all_collections(request: Request, me: Me) -> Response:
    """The collections, and a form to make one."""
    return shown(request, "collections.html", me=me)


@router.get("/collections/{name}")
def one_collection(request: Request, here: Here, me: Me, name: str) -> Response:
    """The collection's documents, with what one may do there."""
    return shown(request, "collection.html", me=me, collection=readable(here, me, name, fresh=True))


@router.get("/people")
def people(request: Request, here: Here, me: Admin) -> Response:
    """Persons and groups, for administrators."""
    return shown(request, "people.html", me=me, provider=here.provider.settings if here.provider else None)


@router.get("/audit")
def audit(request: Request, me: Admin) -> Response:
    """Who did what, for administrators."""
    return shown(request, "audit.html", me=me)


@router.get("/account")
def account(request: Request, here: Here, me: Me) -> Response:
    """One's own password, where one has any, keys and sign-ins."""
    has_password = here.fresh(lambda connection: users.has_password(connection, me.id))
    return shown(request, "account.html", me=me, has_password=has_password)


@router.get("/status")
def status(request: Request, me: Me) -> Response:
    """Whether questions can be answered, and if not, which part is the reason."""
    return shown(request, "status.html", me=me)
