"""Who did what: written with the change itself, once, and by nobody changed or taken away."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from app.store import audit
from app.store.audit import Actor
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site


def entries(admin: Person, action: str = "", actor: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.get("/api/v1/audit", params={"action": action, "actor": actor, "limit": 50})[
        "items"
    ]
    return found


def of(admin: Person, action: str, thing: str) -> list[dict[str, Any]]:
    return [one for one in entries(admin, action) if one["object"] == thing]


def test_every_change_is_in_the_audit_with_who_made_it_and_from_where(site: Site, admin: Person) -> None:
    name, group = f"u{uuid4().hex[:8]}", f"g{uuid4().hex[:8]}"
    collection = admin.make_collection()
    request = {"authorization": f"Bearer {admin.token}", "x-request-id": f"r{name}", "x-forwarded-for": "192.0.2.17"}
    body = {"name": name, "password": PASSWORD}
    assert site.http.post("/api/v1/users", json=body, headers=request).status_code == 201

    document = admin.upload(collection, "note.txt", b"The gate opens at nine.")
    for method, path, sent in (
        ("PATCH", f"/api/v1/users/{name}", {"role": "reader", "password": "another long password"}),
        ("POST", "/api/v1/groups", {"name": group}),
        ("PUT", f"/api/v1/groups/{group}/members/{name}", None),
        ("PUT", f"/api/v1/collections/{collection}/grants/groups/{group}", {"permission": "write"}),
        ("DELETE", f"/api/v1/collections/{collection}/grants/groups/{group}", None),
        ("DELETE", f"/api/v1/groups/{group}/members/{name}", None),
        ("DELETE", f"/api/v1/groups/{group}", None),
        ("DELETE", f"/api/v1/documents/{document['id']}", None),
        ("DELETE", f"/api/v1/users/{name}", None),
    ):
        answer = admin.call(method, path, json=sent)
        assert answer.status_code < 300, answer.text

    (made,) = of(admin, "user.create", f"users/{name}")
    assert (made["actor"], made["request_id"], made["address"]) == ("admin", f"r{name}", "192.0.2.17")
    assert of(admin, "user.change", f"users/{name}")[0]["detail"] == {"role": "reader", "password": "another"}
    assert of(admin, "grant.give", f"collections/{collection}")[0]["detail"] == {
        "to": f"groups/{group}",
        "permission": "write",
    }
    for action, thing in (
        ("user.delete", f"users/{name}"),
        ("group.create", f"groups/{group}"),
        ("group.add", f"groups/{group}"),
        ("group.remove", f"groups/{group}"),
        ("group.delete", f"groups/{group}"),
        ("grant.take", f"collections/{collection}"),
        ("collection.create", f"collections/{collection}"),
        ("document.upload", f"documents/{document['id']}"),
        ("document.delete", f"documents/{document['id']}"),
    ):
        assert len(of(admin, action, thing)) == 1, action
    assert "another long password" not in site.http.get("/api/v1/audit", headers=request).text


def test_a_change_that_was_refused_left_no_entry(admin: Person, collection: str) -> None:
    before = entries(admin)[0]

    assert admin.call("POST", "/api/v1/collections", json={"name": collection}).status_code == 409
    assert admin.call("PUT", f"/api/v1/collections/{collection}/grants/users/nobody", json={"permission": "read"})

    assert [one for one in entries(admin) if one["at"] > before["at"] and not one["action"].startswith("sign-in")] == []


def test_sign_ins_and_questions_are_there_a_moment_later_and_questions_without_their_text(
    site: Site, admin: Person, collection: str
) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]
    site.http.post("/api/v1/token", data={"username": name, "password": "a wrong password"})
    admin.call("PUT", f"/api/v1/collections/{collection}/grants/users/{name}", json={"permission": "read"})
    person.ask(collection, "Where is the xylophone?")

    wanted = {"sign-in.accepted", "sign-in.refused", "question.ask"}
    wait_for("all is written", lambda: wanted <= {one["action"] for one in entries(admin, actor=name)})
    (asked,) = entries(admin, "question.ask", name)
    assert asked["detail"]["collection"] == collection
    assert "xylophone" not in str(asked)
    assert "a wrong password" not in str(entries(admin, actor=name))


def test_a_name_that_nobody_has_is_not_written_down(site: Site, admin: Person) -> None:
    # People type their password there.
    typed = f"secret-{uuid4().hex}"
    site.http.post("/api/v1/token", data={"username": typed, "password": "x"})

    wait_for("it is written", lambda: entries(admin, "sign-in.refused", "unknown"))
    assert typed not in str(entries(admin))


def test_pages_of_the_audit_join_without_gap_or_repetition(site: Site, admin: Person) -> None:
    actor = f"a{uuid4().hex[:8]}"
    with site.database.begin() as connection:
        for number in range(5):
            audit.note(connection, Actor(actor), "test", f"things/{number}")

    read: list[str] = []
    after = ""
    while after is not None:
        answer = admin.get("/api/v1/audit", params={"actor": actor, "limit": 2, "after": after})
        read += [one["object"] for one in answer["items"]]
        after = answer["next"]

    assert sorted(read) == [f"things/{number}" for number in range(5)]
    assert admin.call("GET", "/api/v1/audit", params={"after": "bm9uZQ"}).status_code == 422


def test_only_administrators_read_the_audit(site: Site) -> None:
    assert site.add_user().call("GET", "/api/v1/audit").status_code == 403


def test_the_same_request_once_more_is_one_entry(site: Site) -> None:
    by = Actor(f"a{uuid4().hex[:8]}")
    for _ in range(2):
        with site.database.begin() as connection:
            audit.note(connection, by, "test", "things/1", {"try": 1})

    with site.database.connect() as connection:
        assert len(audit.listed(connection, 10, by.name, "", None)) == 1


@pytest.mark.parametrize(("days", "kept"), [(31, 0), (400, 1)])
def test_the_purge_takes_what_is_older_than_it_was_told(site: Site, days: int, kept: int) -> None:
    actor = f"a{uuid4().hex[:8]}"
    with site.database.begin() as connection:
        for age in (100, 1):
            audit.note(connection, Actor(actor), "test", f"things/{age}")
        aged = "update audit set at = now() - interval '100 days' where actor = :actor and object = 'things/100'"
        connection.execute(text(aged), {"actor": actor})
        connection.execute(text("set local role rag"))
        assert audit.purge(connection, days) >= 1 - kept
    with site.database.connect() as connection:
        left = [entry.object for entry in audit.listed(connection, 10, actor, "", None)]

    assert left == ["things/1", *["things/100"] * kept]


def test_a_deleted_conversation_is_in_the_audit_without_a_word_of_it(site: Site, admin: Person, contract: str) -> None:
    talk = admin.ask(contract, "How long is the notice period?")["conversation"]
    path = f"/api/v1/conversations/{talk}"
    wait_for("it is kept", lambda: admin.call("GET", path).status_code == 200)

    assert admin.call("DELETE", path).status_code == 204

    (entry,) = of(admin, "conversation.delete", f"conversations/{talk}")
    assert (entry["actor"], entry["detail"]) == ("admin", {})


def test_when_something_was_done_only_the_database_says(site: Site) -> None:
    values = "values (gen_random_uuid(), {at}'x', 'y', 'z', '{{}}', '', '')"
    columns = "id, {at}actor, action, object, detail, request_id, address"
    pool = create_engine(site.database.url.set(username="rag"))
    past = f"insert into audit ({columns.format(at='at, ')}) {values.format(at='now() - interval $$1 day$$, ')}"
    with pytest.raises(DBAPIError, match="permission denied"), pool.begin() as connection:
        connection.execute(text(past))
    with pool.connect() as connection:
        connection.execute(text(f"insert into audit ({columns.format(at='')}) {values.format(at='')}"))
    pool.dispose()
