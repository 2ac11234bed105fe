"""On which hosts a document can be found, as each host's follower tells it."""

import socket
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from tests.app.servers import wait_for
from tests.app.site import Person, Site
from tests.app.test_roles import DENIED, refused

HOST = socket.gethostname()
TELL = "select tell_index_position('app9', '1', 1, null)"


def searchable(admin: Person, document: dict[str, Any]) -> dict[str, bool]:
    found: dict[str, bool] = admin.get(f"/api/v1/documents/{document['id']}")["searchable_on"]
    return found


def test_a_document_tells_on_which_hosts_it_can_be_found(site: Site, admin: Person, collection: str) -> None:
    first = admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))
    wait_for("it can be found here", lambda: searchable(admin, first) == {HOST: True})

    site.index.stop()
    second = admin.settled(admin.upload(collection, "hook.txt", b"The hook is thin."))
    listed = admin.get(f"/api/v1/collections/{collection}/documents")["items"]
    assert [document["searchable_on"] for document in listed] == [{HOST: True}, {HOST: False}]

    site.index.launch()
    wait_for("the other one too", lambda: searchable(admin, second) == {HOST: True})


def test_each_host_tells_how_many_changes_it_is_behind_and_since_when(
    site: Site, admin: Person, collection: str
) -> None:
    def lag(host: str) -> dict[str, Any]:
        return next(one for one in admin.get("/api/v1/indexes")["items"] if one["host"] == host)

    site.wait_until_in_step()
    wait_for("it is told", lambda: (lag(HOST)["behind"], lag(HOST)["since"]) == (0, None))
    site.index.stop()
    documents = [admin.settled(admin.upload(collection, f"{n}.txt", b"Hook %d is thin." % n)) for n in range(3)]
    told = lag(HOST)
    first = text("select created_at from changes where document_id = :id")
    with site.database.connect() as connection:
        since = connection.execute(first, {"id": documents[0]["id"]}).scalar_one()

    assert (told["behind"], datetime.fromisoformat(told["since"])) == (3, since)
    site.index.launch()
    wait_for("it is in step again", lambda: lag(HOST)["behind"] == 0)


def test_a_host_that_is_gone_is_left_out(site: Site, admin: Person, collection: str) -> None:
    document = admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))
    with site.database.begin() as connection:
        for host, minutes in (("app7", 9), ("app8", 11)):
            connection.execute(
                text(
                    "insert into index_positions values (:host, '0', 0, null, now() - make_interval(mins => :minutes))"
                ),
                {"host": host, "minutes": minutes},
            )
    try:
        wait_for("it can be found here", lambda: searchable(admin, document).get(HOST))
        assert searchable(admin, document) == {HOST: True, "app7": False}
    finally:
        with site.database.begin() as connection:
            connection.execute(text("delete from index_positions where host in ('app7', 'app8')"))


def test_without_a_primary_the_follower_goes_on_and_tells_later(site: Site, admin: Person, collection: str) -> None:
    document = admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))
    wait_for("it can be found here", lambda: searchable(admin, document).get(HOST))
    log = site.folder / "index.log"
    told = len(log.read_text())
    with site.database.begin() as connection:
        connection.execute(text("delete from index_positions"))
    site.index.stop()
    site.postgresql.demote()
    try:
        site.index.launch()
        wait_for("it says so", lambda: "position = not told" in log.read_text()[told:], 30)
        assert site.index.running
        assert searchable(admin, document) == {}
    finally:
        site.postgresql.promote()

    wait_for("it is told", lambda: searchable(admin, document) == {HOST: True}, 30)


@pytest.mark.parametrize(
    ("role", "statement", "code"),
    [
        ("rag_read", TELL, None),
        ("rag_read", "insert into index_positions values ('app9', '1', 1, null, now())", DENIED),
        ("rag_read", "update index_positions set seq = 1", DENIED),
        ("rag_read", "delete from index_positions", DENIED),
        ("rag", "delete from index_positions", None),
    ],
)
def test_a_follower_tells_its_position_and_writes_nothing_else(
    site: Site, role: str, statement: str, code: str | None
) -> None:
    assert refused(site, role, statement) == code
