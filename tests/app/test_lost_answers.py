"""Every write whose commit arrived and whose answer got lost: it is repeated, and done once.

Each caller of ``writing`` stands here or in test_lost_answers_at_work.py with what it leaves behind.
"""

from dataclasses import replace
from uuid import UUID, uuid4

import httpx
import pytest

from app.store import documents
from app.store.documents import Upload
from tests.app.site import PASSWORD, Person, Site
from tests.app.wire import Wire, rows, told


@pytest.fixture
def far(api: httpx.Client, admin: Person) -> Person:
    """The administrator, at that API."""
    return Person(api, admin.token)


def test_a_user_is_added_once(site: Site, wire: Wire, far: Person) -> None:
    name = f"u{uuid4().hex[:8]}"
    wire.lose_every_other()

    answer = far.call("POST", "/api/v1/users", json={"name": name, "password": PASSWORD})

    assert (answer.status_code, wire.lost) == (201, 1)
    assert rows(site, "select cast(id as text) from users where name = :name", name=name) == [(answer.json()["id"],)]
    noted = "select actor from audit where action = 'user.create' and object = :object"
    assert rows(site, noted, object=f"users/{name}") == [("admin",)]
    assert site.sign_in(name)


def test_a_collection_is_made_once_and_its_maker_manages_it(site: Site, wire: Wire, far: Person) -> None:
    name = f"c{uuid4().hex[:8]}"
    wire.lose_every_other()

    answer = far.call("POST", "/api/v1/collections", json={"name": name})

    assert (answer.status_code, wire.lost) == (201, 1)
    statement = "select manages from collections c join grants on collection_id = c.id where name = :name"
    assert rows(site, statement, name=name) == [(True,)]


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/collections"])
def test_a_name_that_is_anothers_is_still_a_conflict(wire: Wire, far: Person, path: str) -> None:
    taken = {"name": f"n{uuid4().hex[:8]}"} | ({"password": PASSWORD} if path == "/api/v1/users" else {})
    assert far.call("POST", path, json=taken).status_code == 201
    wire.lose_every_other()

    answer = far.call("POST", path, json=taken)

    # What was refused is rolled back: there is no commit whose answer could get lost.
    assert (answer.status_code, wire.lost) == (409, 0)


def test_a_document_is_stored_once_with_one_job(site: Site, wire: Wire, far: Person, collection: str) -> None:
    site.worker.stop()
    wire.lose_every_other()

    document = far.upload(collection, "rota.txt", b"On Friday the cook is Ada.")

    assert wire.lost == 1
    statement = (
        "select cast(d.id as text), attempts from documents d join jobs on document_id = d.id"
        " where collection_id = (select id from collections where name = :name)"
    )
    assert rows(site, statement, name=collection) == [(document["id"], 0)]


def test_a_repeated_write_gives_a_document_that_failed_meanwhile_no_second_chance(
    site: Site, admin: Person, collection: str
) -> None:
    collection_id = rows(site, "select id from collections where name = :name", name=collection)[0][0]
    user_id = UUID(admin.get("/api/v1/me")["id"])
    upload = Upload(uuid4(), collection_id, user_id, "script.pdf", "application/pdf", "0" * 64, b"#!/bin/sh")
    site.worker.stop()

    def state(wanted: Upload) -> str:
        with site.database.begin() as connection:
            document = documents.store(connection, wanted)
            documents.mark(connection, document.id, "failed")
            return document.state

    states = [state(upload), state(upload), state(replace(upload, id=uuid4()))]

    # The third is a person's, who uploads the same again and does want another try.
    assert states == ["queued", "failed", "queued"]


def test_a_grant_is_given_and_taken_once(site: Site, wire: Wire, far: Person, collection: str) -> None:
    name = site.add_user().get("/api/v1/me")["name"]
    path = f"/api/v1/collections/{collection}/grants/users/{name}"
    statement = "select permission from grants join users u on u.id = user_id where u.name = :name"
    wire.lose_every_other()

    given = far.call("PUT", path, json={"permission": "read"})
    held = rows(site, statement, name=name)
    taken = far.call("DELETE", path)

    assert (given.status_code, taken.status_code, wire.lost) == (200, 204, 2)
    assert (held, rows(site, statement, name=name)) == ([("read",)], [])


def test_a_password_is_changed_and_the_repetition_does_not_call_the_old_one_wrong(
    site: Site, wire: Wire, api: httpx.Client
) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]
    wire.lose_every_other()

    body = {"current": PASSWORD, "new": "another long password"}
    answer = Person(api, person.token).call("PUT", "/api/v1/me/password", json=body)

    assert (answer.status_code, wire.lost >= 1) == (200, True)
    assert site.sign_in(name, "another long password")


def test_a_session_is_renewed_and_ended_and_the_repetition_takes_nobody_for_a_thief(
    site: Site, wire: Wire, api: httpx.Client
) -> None:
    tokens = site.http.post("/api/v1/token", json={"username": "admin", "password": PASSWORD}).json()
    wire.lose_every_other()

    renewed = api.post("/api/v1/token/refresh", json={"refresh_token": tokens["refresh_token"]})
    person = Person(api, renewed.json()["access_token"])
    known = person.call("GET", "/api/v1/me")
    out = person.call("POST", "/api/v1/sign-out")

    # An entry of the audit that another test's request left to be written later may get lost too.
    assert (renewed.status_code, known.status_code, out.status_code, wire.lost >= 2) == (200, 200, 204, True)
    assert person.call("GET", "/api/v1/me").status_code == 401


def test_a_key_is_made_and_revoked_once(site: Site, wire: Wire, far: Person) -> None:
    wire.lose_every_other()

    made = far.call("POST", "/api/v1/keys", json={"name": "nightly", "scopes": ["read"]})
    program = Person(site.http, made.json()["secret"])
    known = program.call("GET", "/api/v1/me")
    wire.lose_every_other()
    gone = far.call("DELETE", f"/api/v1/keys/{made.json()['id']}")

    assert (made.status_code, known.status_code, gone.status_code, wire.lost) == (201, 200, 204, 1)
    assert program.call("GET", "/api/v1/me").status_code == 401


def test_a_person_is_shut_out_and_given_a_password_once(site: Site, wire: Wire, far: Person) -> None:
    name = site.add_user().get("/api/v1/me")["name"]
    wire.lose_every_other()

    answer = far.call("PATCH", f"/api/v1/users/{name}", json={"disabled": True, "password": "another long password"})

    assert (answer.status_code, wire.lost) == (200, 1)
    assert (answer.json()["name"], answer.json()["disabled"]) == (name, True)


def test_a_person_and_a_group_are_deleted_once(wire: Wire, far: Person) -> None:
    name = f"n{uuid4().hex[:8]}"
    for path in ("users", "groups"):
        body = {"name": name} | ({"password": PASSWORD} if path == "users" else {})
        assert far.call("POST", f"/api/v1/{path}", json=body).status_code == 201
        wire.lose_every_other()

        answer = far.call("DELETE", f"/api/v1/{path}/{name}")

        wire.losing = False
        assert (answer.status_code, wire.lost) == (204, 1)
        assert far.call("DELETE", f"/api/v1/{path}/{name}").status_code == 404


def test_a_group_is_made_once_and_given_its_grant_once(site: Site, wire: Wire, far: Person, collection: str) -> None:
    name = f"g{uuid4().hex[:8]}"
    wire.lose_every_other()

    made = far.call("POST", "/api/v1/groups", json={"name": name})
    joined = far.call("PUT", f"/api/v1/groups/{name}/members/admin")
    given = far.call("PUT", f"/api/v1/collections/{collection}/grants/groups/{name}", json={"permission": "write"})

    assert (made.status_code, joined.status_code, given.status_code, wire.lost) == (201, 200, 200, 3)
    statement = "select permission from group_grants join groups g on g.id = group_id where g.name = :name"
    assert rows(site, statement, name=name) == [("write",)]


def test_a_document_is_deleted_once_and_the_indexes_told_once(
    site: Site, wire: Wire, far: Person, collection: str
) -> None:
    document = far.settled(far.upload(collection, "rota.txt", b"On Friday the cook is Ada."))
    wire.lose_every_other()

    answer = far.call("DELETE", f"/api/v1/documents/{document['id']}")

    assert (answer.status_code, wire.lost) == (204, 1)
    assert told(site, document) == ["indexed 1", "deleted 1"]
    assert far.call("DELETE", f"/api/v1/documents/{document['id']}").status_code == 404
