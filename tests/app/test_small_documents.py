"""Small documents go together through the worker where many wait, and each comes to its own end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from app.inference import worker_client
from app.ingest.embed import Worker
from app.ingest.worker import work_once
from app.settings import load
from app.store import jobs
from app.store.database import engine
from tests.app.servers import wait_for
from tests.app.site import Person, Site

# As many that one of two hosts' threads with two turns takes four together.
WAITING = 30


@pytest.fixture
def worker(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The only worker, which each test lets work once."""
    site.worker.stop()
    with site.database.begin() as connection:
        connection.execute(text("delete from documents where state <> 'indexed'"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setenv("RAG_CONFIG", site.environment["RAG_CONFIG"])
    settings = load()
    ingest = settings.ingest.model_copy(update={"retry_seconds": 0.05})
    settings = settings.model_copy(update={"ingest": ingest})
    primary = engine(settings.database, "read-write")
    yield Worker(settings, primary, worker_client(settings.inference), threading.Event())
    primary.dispose()
    with site.database.begin() as connection:
        connection.execute(text("delete from documents where state <> 'indexed'"))


def queued(admin: Person, collection: str, *first: tuple[str, bytes]) -> list[dict[str, Any]]:
    """Documents that wait, these before the others."""
    more = [(f"{n}.txt", b"Crane %d lifts nine tonnes." % n) for n in range(WAITING - len(first))]
    return [admin.upload(collection, name, content) for name, content in (*first, *more)]


def states(admin: Person, documents: list[dict[str, Any]]) -> list[str]:
    return [admin.get(f"/api/v1/documents/{document['id']}")["state"] for document in documents]


def test_small_documents_are_embedded_and_published_together(
    site: Site, worker: Worker, admin: Person, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = queued(admin, collection)
    calls: list[int] = []
    embed = worker.client.embed

    def counted(**asked: Any) -> Any:
        calls.append(len(asked["input"]))
        return embed(**asked)

    monkeypatch.setattr(worker.client, "embed", counted)
    assert work_once(worker)

    assert states(admin, waiting) == ["indexed"] * 4 + ["queued"] * (WAITING - 4)
    assert calls == [4]
    told = text("select xid from changes where document_id = any(cast(:ids as uuid[]))")
    with site.database.connect() as connection:
        transactions = connection.execute(told, {"ids": [one["id"] for one in waiting]}).scalars().all()
    assert (len(transactions), len(set(transactions))) == (4, 1)


def test_few_documents_are_left_for_other_threads_and_large_ones_go_alone(
    worker: Worker, admin: Person, collection: str
) -> None:
    large = ("large.txt", b"The crane lifts nine tonnes. " * 1000)
    waiting = queued(admin, collection, large)
    assert work_once(worker)
    assert states(admin, waiting) == ["indexed"] + ["queued"] * (WAITING - 1)
    while work_once(worker):
        pass
    assert states(admin, waiting) == ["indexed"] * WAITING

    few = [admin.upload(collection, f"few-{n}.txt", b"Gate %d opens at nine." % n) for n in range(3)]
    assert work_once(worker)
    assert states(admin, few) == ["indexed", "queued", "queued"]


def test_one_that_cannot_be_read_fails_alone(worker: Worker, admin: Person, collection: str) -> None:
    waiting = queued(admin, collection, ("noise.txt", bytes(range(256)) * 2), ("b.txt", b"All is well."))

    assert work_once(worker)

    assert states(admin, waiting)[:5] == ["failed", "indexed", "indexed", "indexed", "queued"]


def test_one_that_every_host_fails_at_leaves_the_others_their_vectors(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    site.ollama.chokes_on, site.ollama.chokes = "walrus", 1000
    waiting = queued(admin, collection, ("a.txt", b"All is well."), ("walrus.txt", b"The walrus is on leave."))

    assert work_once(worker)

    assert states(admin, waiting)[:5] == ["indexed", "queued", "indexed", "indexed", "queued"]
    assert "runner ended as told" in admin.get(f"/api/v1/documents/{waiting[1]['id']}")["error"]


def test_one_that_the_database_refuses_leaves_the_others_published(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    waiting = queued(admin, collection, ("a.txt", b"All is well."), ("walrus.txt", b"The walrus is on leave."))
    with site.database.begin() as connection:
        connection.execute(text("alter table passages add constraint none check (text not like '%walrus%')"))
    try:
        with pytest.raises(Exception, match="violates check constraint"):
            work_once(worker)
    finally:
        with site.database.begin() as connection:
            connection.execute(text("alter table passages drop constraint none"))

    assert states(admin, waiting)[:5] == ["indexed", "embedding", "indexed", "indexed", "queued"]


def test_one_that_is_cancelled_or_deleted_meanwhile_leaves_the_others_alone(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    waiting = queued(admin, collection)
    site.ollama.holds = site.ollama.holds_embeddings = True
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work_once, worker)
        wait_for("they are embedded", lambda: site.ollama.embedding == 1)
        assert states(admin, waiting)[:5] == ["embedding"] * 4 + ["queued"]
        admin.call("POST", f"/api/v1/documents/{waiting[0]['id']}/cancel")
        admin.call("DELETE", f"/api/v1/documents/{waiting[2]['id']}")
        site.ollama.holds = False
        assert working.result()

    assert states(admin, [waiting[0], waiting[1], waiting[3]]) == ["cancelled", "indexed", "indexed"]
    assert admin.call("GET", f"/api/v1/documents/{waiting[2]['id']}").status_code == 404


def test_two_versions_that_go_together_leave_the_newer(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    versions = ("rota.txt", b"On Friday the cook is Ada."), ("rota.txt", b"On Friday the cook is Grace.")
    waiting = queued(admin, collection, *versions)

    assert work_once(worker)

    assert admin.call("GET", f"/api/v1/documents/{waiting[0]['id']}").status_code == 404
    assert states(admin, waiting[1:5]) == ["indexed"] * 3 + ["queued"]
    site.wait_until_in_step()
    assert [one["text"] for one in admin.search(collection, "cook")["results"]][:1] == ["On Friday the cook is Grace."]


def test_what_a_worker_died_of_takes_its_neighbours_along_once(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    waiting = queued(admin, collection)
    with site.database.begin() as connection:
        first = jobs.take(connection, "one that dies", 60)
        assert first
        together = [first, *jobs.fellows(connection, first, 3, 8, 1000)]
        # It died, and its leases lapsed.
        connection.execute(text("update jobs set lease_until = clock_timestamp() where owner = 'one that dies'"))
    assert [job.attempts for job in together] == [1] * 4

    assert work_once(worker)

    assert states(admin, waiting) == ["indexed"] + ["queued"] * (WAITING - 1)
