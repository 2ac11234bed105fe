"""A document on its way: what is told of it, and how a person stops it or gives it another round."""

import threading
from typing import Any

from sqlalchemy import text

from app.store import jobs
from tests.app.servers import wait_for
from tests.app.site import Person, Site

CRANES = " ".join(
    f"Crane number {number} lifts {number} tonnes, no less and no more." for number in range(900)
).encode()


def path_of(document: dict[str, Any], action: str = "") -> str:
    return f"/api/v1/documents/{document['id']}{action}"


def left(site: Site, document: dict[str, Any]) -> tuple[int, ...]:
    """How many jobs, passages and changes there are of the document."""
    with site.database.connect() as connection:
        tables = ("jobs", "passages", "changes")
        return tuple(
            connection.execute(text(f"select count(*) from {table} where document_id = :id"), document).scalar_one()
            for table in tables
        )


def test_a_large_document_tells_how_far_it_is(site: Site, admin: Person, collection: str) -> None:
    site.ollama.embed_seconds = 0.3

    document = admin.upload(collection, "cranes.txt", CRANES)

    assert (document["state"], document["progress"], document["collection"]) == ("queued", None, collection)
    wait_for("it is on its way", lambda: (admin.get(path_of(document))["progress"] or {}).get("done"))
    shown = admin.get(path_of(document))
    assert shown["state"] == "embedding"
    assert 0 < shown["progress"]["done"] < shown["progress"]["total"]
    assert admin.get(f"/api/v1/collections/{collection}")["documents"] == {"embedding": 1}
    of_state = f"/api/v1/collections/{collection}/documents?state="
    assert [len(admin.get(of_state + state)["items"]) for state in ("embedding", "failed")] == [1, 0]
    site.ollama.embed_seconds = 0
    done = admin.settled(document)
    assert (done["state"], done["progress"], done["passages"]) == ("indexed", None, shown["progress"]["total"])


def test_a_cancelled_document_goes_no_further_and_leaves_nothing(site: Site, admin: Person, collection: str) -> None:
    site.ollama.embed_seconds = 0.3
    document = admin.upload(collection, "cranes.txt", CRANES)
    wait_for("it is embedded", lambda: admin.get(path_of(document))["state"] == "embedding")

    cancelled = admin.call("POST", path_of(document, "/cancel"))
    again = admin.call("POST", path_of(document, "/cancel"))

    assert [(answer.status_code, answer.json()["state"]) for answer in (cancelled, again)] == [(202, "cancelled")] * 2
    # With one thread still at it, this one would wait for the whole of the other.
    before = site.ollama.embedded
    after = [admin.settled(admin.upload(collection, f"{n}.txt", b"All is well %d." % n)) for n in range(3)]
    assert [other["state"] for other in after] == ["indexed"] * 3
    assert site.ollama.embedded - before < 40
    assert admin.get(path_of(document))["state"] == "cancelled"
    assert left(site, document) == (0, 0, 0)
    noted = admin.get("/api/v1/audit", params={"action": "document.cancel"})["items"]
    assert [entry["object"] for entry in noted].count(f"documents/{document['id']}") == 1


def test_a_document_given_up_gets_another_round_when_somebody_asks(site: Site, admin: Person, collection: str) -> None:
    site.worker.stop()
    waiting = admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes.")
    admin.call("POST", path_of(waiting, "/cancel"))
    empty = admin.upload(collection, "empty.txt", b"")
    site.worker.launch()
    assert admin.settled(empty)["state"] == "failed"

    retried = [admin.call("POST", path_of(document, "/retry")) for document in (waiting, empty)]

    assert [(answer.status_code, answer.json()["state"]) for answer in retried] == [(202, "queued")] * 2
    assert admin.settled(waiting)["state"] == "indexed"
    noted = {entry["object"] for entry in admin.get("/api/v1/audit", params={"action": "document.retry"})["items"]}
    assert noted >= {f"documents/{document['id']}" for document in (waiting, empty)}
    assert admin.settled(empty)["state"] == "failed"
    refused = [admin.call("POST", path_of(waiting, action)) for action in ("/retry", "/cancel")]
    assert [answer.status_code for answer in refused] == [409, 409]
    assert refused[1].json()["detail"] == "state = indexed; queued, parsing or embedding"


def test_who_may_only_read_neither_stops_nor_retries_and_strangers_learn_nothing(
    site: Site, admin: Person, collection: str
) -> None:
    document = admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))
    reader, stranger = site.add_user(), site.add_user()
    name = reader.get("/api/v1/me")["name"]
    admin.call("PUT", f"/api/v1/collections/{collection}/grants/users/{name}", json={"permission": "read"})

    answers = [
        person.call("POST", path_of(document, action)).status_code
        for person in (reader, stranger)
        for action in ("/retry", "/cancel")
    ]

    assert answers == [403, 403, 404, 404]


def test_the_same_upload_at_the_same_instant_is_one_document_and_both_get_it(admin: Person, collection: str) -> None:
    start, answers = threading.Barrier(6), []

    def upload() -> None:
        start.wait()
        answers.append(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({answer["id"] for answer in answers}) == 1
    assert len(answers) == 6
    assert admin.settled(answers[0])["state"] == "indexed"


def test_a_worker_of_the_release_before_is_understood(site: Site, admin: Person, collection: str) -> None:
    site.worker.stop()
    document = admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes.")
    with site.database.begin() as connection:
        assert jobs.take(connection, "an older worker", 0.1)
        connection.execute(text("update documents set state = 'working' where id = :id"), document)

    assert admin.get(path_of(document))["state"] == "parsing"
    assert admin.get(f"/api/v1/collections/{collection}")["documents"] == {"parsing": 1}
    site.worker.launch()
    assert admin.settled(document)["state"] == "indexed"
