"""Who may call what: every route of the API's own description, as each kind of caller, on own and foreign things.

The table is below, and as it came out in build/authorisation.md. A route without a line here is a failure.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.callers import CALLERS, World, world_of
from tests.app.servers import ROOT
from tests.app.site import PASSWORD, Site

# What the callers of callers.py get, in their order: on what they were given a grant for, or what is theirs …
OWN = """
           nobody reader none read write manage admin key expired disabled deleted
open       2      2      2    2    2     2      2     2   2       2        2
off        404    404    404  404  404   404    404   404 404     404      404
anyone     401    2      2    2    2     2      2     2   401     401      401
session    401    2      2    2    2     2      2     403 401     401      401
editors    401    403    2    2    2     2      2     403 401     401      401
admins     401    403    403  403  403   403    2     403 401     401      401
readers    401    2      404  2    2     2      2     2   401     401      401
writers    401    403    404  403  2     2      2     403 401     401      401
managers   401    403    404  403  403   2      2     403 401     401      401
owner      401    2      2    2    2     2      2     2   401     401      401
owner+     401    2      2    2    2     2      2     403 401     401      401
"""
# … and on what is somebody else's.
FOREIGN = """
           nobody reader none read write manage admin key expired disabled deleted
open       2      2      2    2    2     2      2     2   2       2        2
off        404    404    404  404  404   404    404   404 404     404      404
anyone     401    2      2    2    2     2      2     2   401     401      401
session    401    2      2    2    2     2      2     403 401     401      401
editors    401    403    2    2    2     2      2     403 401     401      401
admins     401    403    403  403  403   403    2     403 401     401      401
readers    401    404    404  404  404   404    2     404 401     401      401
writers    401    404    404  404  404   404    2     403 401     401      401
managers   401    404    404  404  404   404    2     403 401     401      401
owner      401    404    404  404  404   404    404   404 401     401      401
owner+     401    404    404  404  404   404    404   403 401     401      401
"""

LONG = "another long password"
USER = {"name": "{fresh}", "password": PASSWORD}
ASKED = {"collection": "{collection}", "question": "What opens at nine?"}
CHAT = {"model": "{collection}", "messages": [{"role": "user", "content": "What opens at nine?"}]}
FILE = {"files": {"file": ("gate.txt", b"The gate opens at nine.")}}

# Method and path, who may, and what is sent; a name in braces stands for the request's own thing.
ROUTES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET /health/live", "open", {}),
    ("GET /health/ready", "open", {}),
    ("GET /metrics", "open", {}),
    ("POST /api/v1/token", "open", {"json": {"username": "{manager}", "password": PASSWORD}}),
    ("POST /api/v1/token/refresh", "open", {"json": {"refresh_token": "{refresh}"}}),
    ("POST /api/v1/sign-out", "session", {}),
    ("GET /api/v1/me", "anyone", {}),
    ("PUT /api/v1/me/password", "session", {"json": {"current": PASSWORD, "new": PASSWORD}}),
    ("DELETE /api/v1/me/sessions", "session", {}),
    ("GET /api/v1/me/storage", "anyone", {}),
    ("GET /api/v1/keys", "session", {}),
    ("POST /api/v1/keys", "session", {"json": {"name": "nightly", "scopes": ["read"]}}),
    ("DELETE /api/v1/keys/{key_id}", "owner+", {}),
    ("GET /api/v1/users", "admins", {}),
    ("POST /api/v1/users", "admins", {"json": USER}),
    ("PATCH /api/v1/users/{name}", "admins", {"json": {"disabled": True}}),
    ("DELETE /api/v1/users/{name}", "admins", {}),
    ("GET /api/v1/users/{name}/keys", "admins", {}),
    ("DELETE /api/v1/users/{name}/keys/{key_id}", "admins", {}),
    ("PUT /api/v1/users/{name}/identity", "admins", {"json": {"subject": "{fresh}"}}),
    ("DELETE /api/v1/users/{name}/identity", "admins", {}),
    # Without a provider; with one they are for browsers, and open.
    ("GET /sign-in/oidc", "off", {}),
    ("GET /sign-in/oidc/callback", "off", {}),
    ("GET /sign-out/oidc", "off", {}),
    ("GET /api/v1/groups", "admins", {}),
    ("POST /api/v1/groups", "admins", {"json": {"name": "{fresh}"}}),
    ("GET /api/v1/groups/{name}", "admins", {}),
    ("DELETE /api/v1/groups/{name}", "admins", {}),
    ("PUT /api/v1/groups/{name}/members/{user}", "admins", {}),
    ("DELETE /api/v1/groups/{name}/members/{user}", "admins", {}),
    ("GET /api/v1/audit", "admins", {}),
    ("GET /api/v1/indexes", "anyone", {}),
    ("GET /api/v1/reembedding", "admins", {}),
    ("POST /api/v1/reembedding", "admins", {}),
    ("POST /api/v1/reembedding/back", "admins", {}),
    ("POST /api/v1/reembedding/finish", "admins", {}),
    ("DELETE /api/v1/reembedding", "admins", {}),
    ("GET /api/v1/collections", "anyone", {}),
    ("POST /api/v1/collections", "editors", {"json": {"name": "{fresh}"}}),
    ("GET /api/v1/collections/{name}", "readers", {}),
    ("DELETE /api/v1/collections/{name}", "managers", {}),
    ("GET /api/v1/collections/{name}/grants", "managers", {}),
    ("PUT /api/v1/collections/{name}/grants/users/{user}", "managers", {"json": {"permission": "manage"}}),
    ("DELETE /api/v1/collections/{name}/grants/users/{user}", "managers", {}),
    ("PUT /api/v1/collections/{name}/grants/groups/{group}", "managers", {"json": {"permission": "read"}}),
    ("DELETE /api/v1/collections/{name}/grants/groups/{group}", "managers", {}),
    ("GET /api/v1/collections/{name}/documents", "readers", {}),
    ("POST /api/v1/collections/{name}/documents", "writers", FILE),
    ("GET /api/v1/documents/{document_id}", "readers", {}),
    ("DELETE /api/v1/documents/{document_id}", "writers", {}),
    ("GET /api/v1/documents/{document_id}/source", "readers", {}),
    ("GET /api/v1/documents/{document_id}/passages/{ordinal}", "readers", {}),
    ("POST /api/v1/documents/{document_id}/retry", "writers", {}),
    ("POST /api/v1/documents/{document_id}/cancel", "writers", {}),
    ("GET /api/v1/search", "readers", {"params": {"collection": "{collection}", "q": "gate"}}),
    ("POST /api/v1/questions", "readers", {"json": ASKED}),
    ("GET /api/v1/questions", "anyone", {}),
    ("PUT /api/v1/questions/{question_id}/feedback", "owner", {"json": {"verdict": "up"}}),
    ("GET /api/v1/conversations", "anyone", {}),
    ("GET /api/v1/conversations/{conversation_id}", "owner", {}),
    ("DELETE /api/v1/conversations/{conversation_id}", "owner+", {}),
    ("GET /v1/models", "anyone", {}),
    ("GET /v1/models/{name}", "readers", {}),
    ("POST /v1/chat/completions", "readers", {"json": CHAT}),
)


@pytest.fixture(scope="module")
def world(site: Site) -> Iterator[World]:
    yield from world_of(site)


def described(site: Site) -> set[str]:
    """Every route of the API's own description."""
    paths = site.http.get("/api/v1/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def expected(table: str) -> dict[str, dict[str, str]]:
    head, *lines = [line.split() for line in table.strip().splitlines()]
    assert tuple(head) == CALLERS
    return {policy: dict(zip(head, cells, strict=True)) for policy, *cells in lines}


def test_every_route_has_its_line_and_every_line_its_route(site: Site) -> None:
    assert described(site) == {route for route, _, _ in ROUTES}


def test_every_caller_gets_what_the_table_says_on_every_route(world: World) -> None:
    rows, wrong = [], []
    for kind, table in (("own", expected(OWN)), ("foreign", expected(FOREIGN))):
        for route, policy, sent in ROUTES:
            method, path = route.split()
            got = {caller: str(world.status(caller, method, path, sent, own=kind == "own")) for caller in CALLERS}
            rows.append([f"{method} {path}", kind, *got.values()])
            wrong += [
                f"{route}, {kind}, {caller}: {status} and not {table[policy][caller]}"
                for caller, status in got.items()
                if not fits(status, table[policy][caller])
            ]

    write_down(rows)
    assert wrong == []


def fits(status: str, wanted: str) -> bool:
    # What a thing's state forbids was allowed all the same: a document that is done is not cancelled.
    return status == wanted or (wanted == "2" and (status.startswith("2") or status == "409"))


def write_down(rows: list[list[str]]) -> None:
    head = ["route", "thing", *CALLERS]
    lines = [head, ["---"] * len(head), *rows]
    path = ROOT / "build/authorisation.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
