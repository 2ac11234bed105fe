"""API keys: what a program may do with one, and how it ends."""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.api import scopes
from tests.app.servers import wait_for
from tests.app.site import Person, Site


def made(person: Person, *allowed: str, **more: Any) -> dict[str, Any]:
    body = {"name": f"k{uuid4().hex[:6]}", "scopes": list(allowed), **more}
    answer = person.call("POST", "/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def test_a_program_acts_with_a_key_wherever_a_token_is_taken(site: Site) -> None:
    person = site.add_user()
    collection = person.make_collection()
    key = made(person, "read", "write")
    program = Person(site.http, key["secret"])

    document = program.settled(program.upload(collection, "gate.txt", b"The gate opens at nine."))

    assert program.search(collection, "gate")["results"]
    assert program.call("DELETE", f"/api/v1/documents/{document['id']}").status_code == 204
    me = program.get("/api/v1/me")
    assert (me["name"], me["key"], me["scopes"]) == (person.get("/api/v1/me")["name"], key["name"], ["read", "write"])


def test_a_secret_is_told_once_and_kept_as_its_hash(site: Site) -> None:
    person = site.add_user()
    key = made(person, "read")

    listed = person.call("GET", "/api/v1/keys")

    assert key["secret"] not in listed.text
    assert [one["id"] for one in listed.json()["items"]] == [key["id"]]
    secret = key["secret"].split("_", 2)[2]
    with site.database.connect() as connection:
        row = connection.execute(text("select * from api_keys where id = :id"), {"id": UUID(key["id"])}).one()
    assert bytes(row.secret_sha256) == hashlib.sha256(secret.encode()).digest()
    assert secret not in str(row)
    assert len(secret) == 43


@pytest.mark.parametrize(
    ("allowed", "method", "path", "expected"),
    [
        ("read", "GET", "/api/v1/collections", 200),
        ("read", "POST", "/api/v1/collections", 403),
        ("write", "POST", "/api/v1/collections", 422),
        ("write", "GET", "/api/v1/collections", 403),
        ("read", "GET", "/api/v1/users", 403),
        ("write", "POST", "/api/v1/users", 403),
        ("admin", "GET", "/api/v1/users", 200),
        ("admin", "GET", "/api/v1/collections", 403),
        ("admin", "POST", "/api/v1/keys", 403),
        ("admin", "PUT", "/api/v1/me/password", 403),
        ("admin", "PUT", "/api/v1/users/admin/identity", 403),
        ("admin", "DELETE", "/api/v1/users/admin/identity", 403),
        ("write", "POST", "/api/v1/sign-out", 403),
        ("admin", "GET", "/api/v1/me", 200),
        ("write", "PUT", "/api/v1/collections/x/grants/users/admin", 403),
    ],
)
def test_a_key_does_what_its_scopes_say_and_no_more(
    site: Site, admin: Person, allowed: str, method: str, path: str, expected: int
) -> None:
    program = Person(site.http, made(admin, allowed)["secret"])

    answer = program.call(method, path, json={} if method != "GET" else None)

    assert answer.status_code == expected, answer.text


def test_every_method_of_an_unknown_route_needs_a_scope() -> None:
    assert scopes.needed("PATCH", "/api/v1/anything/new") == "write"
    assert scopes.needed("GET", "/api/v1/anything/new") == "read"


def test_who_is_no_administrator_gets_no_key_that_administers_and_loses_it_with_the_role(
    site: Site, admin: Person
) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]
    body = {"name": "mine", "scopes": ["admin"]}
    assert person.call("POST", "/api/v1/keys", json=body).status_code == 403

    admin.call("PATCH", f"/api/v1/users/{name}", json={"role": "admin"})
    program = Person(site.http, made(person, "admin")["secret"])
    assert program.call("GET", "/api/v1/users").status_code == 200
    admin.call("PATCH", f"/api/v1/users/{name}", json={"role": "editor"})

    assert program.call("GET", "/api/v1/users").status_code == 403


def test_a_revoked_key_ends_at_once_by_its_owner_or_an_administrator(site: Site, admin: Person) -> None:
    person, stranger = site.add_user(), site.add_user()
    name = person.get("/api/v1/me")["name"]
    first, second = made(person, "read"), made(person, "read")

    assert stranger.call("DELETE", f"/api/v1/keys/{first['id']}").status_code == 404
    assert stranger.call("GET", f"/api/v1/users/{name}/keys").status_code == 403
    assert person.call("DELETE", f"/api/v1/keys/{first['id']}").status_code == 204
    assert Person(site.http, first["secret"]).call("GET", "/api/v1/me").status_code == 401
    assert [one["id"] for one in admin.get(f"/api/v1/users/{name}/keys")["items"]] == [second["id"]]
    assert admin.call("DELETE", f"/api/v1/users/{name}/keys/{second['id']}").status_code == 204
    assert Person(site.http, second["secret"]).call("GET", "/api/v1/me").status_code == 401


def test_a_key_ends_with_its_time_and_with_its_user(site: Site, admin: Person) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]
    expired, other = made(person, "read", expires_in_days=1), made(person, "read")
    lives = datetime.fromisoformat(expired["expires_at"]) - datetime.fromisoformat(expired["created_at"])
    assert lives.days == 1
    with site.database.begin() as connection:
        connection.execute(text("update api_keys set expires_at = now() where id = :id"), {"id": UUID(expired["id"])})

    assert Person(site.http, expired["secret"]).call("GET", "/api/v1/me").status_code == 401
    assert Person(site.http, other["secret"]).call("GET", "/api/v1/me").status_code == 200
    admin.call("PATCH", f"/api/v1/users/{name}", json={"disabled": True})
    assert Person(site.http, other["secret"]).call("GET", "/api/v1/me").status_code == 401


@pytest.mark.parametrize("change", ["another secret", "another number", "no number", "no secret", "lone prefix"])
def test_what_only_looks_like_a_key_is_refused(site: Site, change: str) -> None:
    key = made(site.add_user(), "read")
    _, number, secret = key["secret"].split("_", 2)
    sent = {
        "another secret": f"rag_{number}_{'A' * 43}",
        "another number": f"rag_{uuid4().hex}_{secret}",
        "no number": f"rag__{secret}",
        "no secret": f"rag_{number}_",
        "lone prefix": "rag_",
    }[change]

    assert Person(site.http, sent).call("GET", "/api/v1/me").status_code == 401


def test_who_is_let_in_again_makes_new_keys(site: Site, admin: Person) -> None:
    person = site.add_user()
    name, program = person.get("/api/v1/me")["name"], Person(site.http, made(person, "read")["secret"])
    for disabled in (True, False):
        assert admin.call("PATCH", f"/api/v1/users/{name}", json={"disabled": disabled}).status_code == 200

    assert program.call("GET", "/api/v1/me").status_code == 401
    assert site.sign_in(name).get("/api/v1/keys")["items"] == []


def test_the_same_idempotency_key_makes_one_key_and_tells_its_secret_once(site: Site) -> None:
    person = site.add_user()
    body = {"name": "nightly", "scopes": ["read"]}
    headers = {"authorization": f"Bearer {person.token}", "idempotency-key": uuid4().hex}

    answers = [site.http.post("/api/v1/keys", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]
    assert len(person.get("/api/v1/keys")["items"]) == 1


def test_the_use_of_a_key_is_written_down_by_the_hour(site: Site) -> None:
    person = site.add_user()
    key = made(person, "read")
    assert key["last_used_at"] is None
    program = Person(site.http, key["secret"])

    def last_used() -> str | None:
        used: str | None = person.get("/api/v1/keys")["items"][0]["last_used_at"]
        return used

    program.get("/api/v1/me")
    wait_for("its use is written down", last_used)
    first = last_used()
    for _ in range(3):
        program.get("/api/v1/me")

    assert last_used() == first


def test_the_audit_says_by_which_key(site: Site, admin: Person) -> None:
    key = made(admin, "write")
    collection = Person(site.http, key["secret"]).make_collection()

    found = admin.get("/api/v1/audit", params={"action": "collection.create"})["items"]

    assert [one["key"] for one in found if one["object"] == f"collections/{collection}"] == [key["name"]]
    created = admin.get("/api/v1/audit", params={"action": "key.create"})["items"][0]
    assert key["secret"].split("_", 2)[2] not in str(created)
