"""Deleting a collection, and the comparison that proves it: PostgreSQL and Chroma are asked themselves."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from app import settings
from app.index import reconcile
from app.index.follower import Follower
from app.index.vectors import Vectors
from app.store import removal
from tests.app.ollama_standin import DIMENSION
from tests.app.servers import wait_for
from tests.app.site import KEPT, SETTINGS, Person, Site


class Chroma:
    """The site's Chroma server, asked without any code of ours."""

    def __init__(self, site: Site) -> None:
        self._base = (
            f"http://127.0.0.1:{site.environment['CHROMA_PORT']}"
            "/api/v2/tenants/default_tenant/databases/default_database/collections"
        )

    def collections(self) -> dict[str, str]:
        listed = httpx.get(self._base, params={"limit": 10_000}, trust_env=False).json()
        return {collection["name"]: collection["id"] for collection in listed}

    def ids(self, collection_id: str) -> set[str]:
        """Every id that the collection holds."""
        found = self.collections().get(f"c-{collection_id}")
        if found is None:
            return set()
        answer = httpx.post(f"{self._base}/{found}/get", json={"include": []}, trust_env=False)
        assert answer.status_code == 200, answer.text
        return set(answer.json()["ids"])

    def remove(self, collection_id: str, ids: list[str]) -> None:
        found = self.collections()[f"c-{collection_id}"]
        httpx.post(f"{self._base}/{found}/delete", json={"ids": ids}, trust_env=False).raise_for_status()

    def add(self, collection_id: str, ids: list[str]) -> None:
        made = httpx.post(self._base, json={"name": f"c-{collection_id}", "get_or_create": True}, trust_env=False)
        body = {"ids": ids, "embeddings": [[0.5] * DIMENSION] * len(ids)}
        added = httpx.post(f"{self._base}/{made.json()['id']}/upsert", json=body, trust_env=False)
        assert added.status_code < 300, added.text


def id_of(site: Site, collection: str) -> str:
    with site.database.connect() as connection:
        return str(
            connection.execute(text("select id from collections where name = :name"), {"name": collection}).scalar_one()
        )


def rows(site: Site, collection_id: str) -> dict[str, int]:
    """How many rows of each kind there are of the collection."""
    with site.database.connect() as connection:
        return {
            table: connection.execute(
                text(f"select count(*) from {table} where {column} = :id"), {"id": collection_id}
            ).scalar_one()
            for table, column in (("collections", "id"), ("documents", "collection_id"), ("passages", "collection_id"))
        }


def passages(site: Site, collection_id: str) -> set[str]:
    statement = text("select document_id || ':' || ordinal from passages where collection_id = :id")
    with site.database.connect() as connection:
        return set(connection.execute(statement, {"id": collection_id}).scalars())


def filled(admin: Person, collection: str, number: int) -> list[dict[str, Any]]:
    uploaded = [admin.upload(collection, f"{n}.txt", f"Crane {n} lifts {n} tonnes.".encode()) for n in range(number)]
    return [admin.settled(document) for document in uploaded]


def test_a_deleted_collection_leaves_nothing_in_postgresql_or_chroma(
    site: Site, admin: Person, collection: str
) -> None:
    documents = filled(admin, collection, 5)
    queued = admin.upload(collection, "large.txt", b"The hook is thin. " * 5000)
    site.wait_until_in_step()
    chroma, collection_id = Chroma(site), id_of(site, collection)
    assert chroma.ids(collection_id) >= {f"{document['id']}:0" for document in documents}

    assert admin.call("DELETE", f"/api/v1/collections/{collection}").status_code == 204

    question = admin.call("POST", "/api/v1/questions", json={"collection": collection, "question": "Which crane?"})
    paths = (f"/collections/{collection}", f"/documents/{documents[0]['id']}", f"/documents/{queued['id']}")
    assert question.status_code == 404
    assert [admin.call("GET", f"/api/v1{path}").status_code for path in paths] == [404] * 3
    assert admin.call("DELETE", f"/api/v1/collections/{collection}").status_code == 404
    assert rows(site, collection_id) == {"collections": 0, "documents": 0, "passages": 0}
    site.wait_until_in_step()
    assert chroma.ids(collection_id) == set()
    noted = admin.get("/api/v1/audit", params={"action": "collection.delete"})["items"]
    assert [entry["object"] for entry in noted].count(f"collections/{collection}") == 1
    # The name is free, and what had it before is not in it.
    assert admin.call("POST", "/api/v1/collections", json={"name": collection}).status_code == 201
    assert admin.get(f"/api/v1/collections/{collection}")["documents"] == {}


def test_uploads_and_questions_while_a_collection_is_deleted_end_cleanly(
    site: Site, admin: Person, collection: str
) -> None:
    filled(admin, collection, 3)
    collection_id, path = id_of(site, collection), f"/api/v1/collections/{collection}"
    start = threading.Barrier(8)

    def call(number: int) -> int:
        start.wait()
        if number == 0:
            return admin.call("DELETE", path).status_code
        if number % 2:
            return admin.call(
                "POST", f"{path}/documents", files={"file": (f"new{number}.txt", b"%d" % number)}
            ).status_code
        body = {"collection": collection, "question": "Which crane?"}
        return admin.call("POST", "/api/v1/questions", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(call, range(8)))

    assert statuses[0] == 204
    assert set(statuses[1::2]) <= {202, 404}
    assert set(statuses[2::2]) <= {200, 404, 503}
    wait_for("nothing is left", lambda: rows(site, collection_id) == {"collections": 0, "documents": 0, "passages": 0})
    site.wait_until_in_step()
    assert Chroma(site).ids(collection_id) == set()


def test_a_deletion_that_broke_off_is_gone_on_with(site: Site, admin: Person, collection: str) -> None:
    filled(admin, collection, 3)
    collection_id = UUID(id_of(site, collection))
    with site.database.begin() as connection:
        removal.hide(connection, collection_id)
        removal.take_some(connection, collection_id, 1)

    refused = admin.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": ("a.txt", b"a")})
    with site.database.begin() as connection:
        removal.go_on(connection)
        removal.go_on(connection)

    assert refused.status_code == 404
    assert rows(site, str(collection_id)) == {"collections": 0, "documents": 0, "passages": 0}
    site.wait_until_in_step()
    assert Chroma(site).ids(str(collection_id)) == set()


def test_who_may_only_write_does_not_delete_a_collection(site: Site, admin: Person, collection: str) -> None:
    writer, stranger = site.add_user(), site.add_user()
    name = writer.get("/api/v1/me")["name"]
    admin.call("PUT", f"/api/v1/collections/{collection}/grants/users/{name}", json={"permission": "write"})

    statuses = [person.call("DELETE", f"/api/v1/collections/{collection}").status_code for person in (writer, stranger)]

    assert statuses == [403, 404]


def test_the_comparison_removes_orphans_and_puts_back_what_is_missing(
    site: Site, admin: Person, collection: str
) -> None:
    documents = filled(admin, collection, 6)
    site.wait_until_in_step()
    # Whoever took rows away past the program has left vectors behind; they are not what is counted here.
    assert site.run("app.index.reconcile").returncode == 0
    chroma, collection_id, gone = Chroma(site), id_of(site, collection), str(uuid4())
    whole = chroma.ids(collection_id)
    # A vector of a deleted document, an id of nobody's, a whole collection that is no more, and two vectors less.
    chroma.add(collection_id, [f"{uuid4()}:0", "stranger"])
    chroma.add(gone, [f"{uuid4()}:{number}" for number in range(3)])
    chroma.remove(collection_id, [f"{documents[1]['id']}:0", f"{documents[4]['id']}:0"])

    done = site.run("app.index.reconcile")
    again = site.run("app.index.reconcile")

    assert (done.returncode, done.stdout) == (0, "5 orphans removed, 2 missing put back\n"), done.stderr
    assert again.stdout == "0 orphans removed, 0 missing put back\n"
    assert chroma.ids(collection_id) == whole == passages(site, collection_id)
    assert f"c-{gone}" not in chroma.collections()


def test_a_comparison_in_many_parts_passes_over_nothing(
    site: Site, admin: Person, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = filled(admin, collection, 7)
    site.wait_until_in_step()
    chroma, collection_id = Chroma(site), id_of(site, collection)
    whole = chroma.ids(collection_id)
    chroma.add(collection_id, [f"{uuid4()}:0" for _ in range(5)])
    chroma.remove(collection_id, [f"{document['id']}:0" for document in documents[::2]])
    vectors = Vectors(settings.Chroma(port=int(site.environment["CHROMA_PORT"])))
    monkeypatch.setattr(reconcile, "AT_ONCE", 2)

    found = asyncio.run(
        reconcile.reconcile([Follower(SETTINGS, site.database, site.database, vectors, KEPT)], contextlib.nullcontext())
    )

    assert found == reconcile.Found(orphans=5, missing=4)
    assert chroma.ids(collection_id) == whole


def test_a_follower_compares_by_itself_and_shows_what_it_found(site: Site, admin: Person, collection: str) -> None:
    filled(admin, collection, 2)
    site.wait_until_in_step()
    chroma, collection_id = Chroma(site), id_of(site, collection)
    chroma.add(collection_id, [f"{uuid4()}:0"])
    often = site.folder / "often.toml"
    often.write_text((site.folder / "rag.toml").read_text().replace("[index]", "[index]\nreconcile_minutes = 0.01"))
    site.index.stop()
    given = site.index.environment
    site.index.environment = {**given, "RAG_CONFIG": str(often)}
    try:
        site.index.start()
        log, says = site.folder / "index.log", "index = 1 orphans removed, 0 missing put back"
        wait_for("the orphan is removed", lambda: says in log.read_text())
        assert chroma.ids(collection_id) == passages(site, collection_id)
    finally:
        site.index.stop()
        site.index.environment = given
