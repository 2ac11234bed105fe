"""The queue of documents: workers, uploads and deletions that meet."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import ollama
import pytest
from sqlalchemy import create_engine, text

from app.ingest.embed import Worker
from app.ingest.worker import _leases
from app.settings import Ingest
from app.store import jobs
from tests.app.servers import Process, wait_for
from tests.app.site import SETTINGS, Person, Site

OLD, NEW = b"On Friday the cook is Ada.", b"On Friday the cook is Grace."


@contextmanager
def held(site: Site, table: str) -> Iterator[Callable[[int], None]]:
    """Whoever writes to the table waits; gives a function that returns once so many sessions wait for something."""

    def wait_for_sessions(number: int) -> None:
        waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")

        def are_there() -> bool:
            with site.database.connect() as other:
                return bool(other.execute(waiting).scalar_one() >= number)

        wait_for(f"{number} sessions wait", are_there)

    with site.database.begin() as connection:
        connection.execute(text(f"lock table {table} in share mode"))
        yield wait_for_sessions


def test_two_versions_that_finish_at_once_leave_the_newer_and_its_vectors_alone(
    site: Site, admin: Person, collection: str
) -> None:
    # The first document of all makes later ones wait for the embedding model's row, and hides what is tested here.
    admin.settled(admin.upload(collection, "first.txt", b"All is well."))
    with held(site, "changes") as wait_for_sessions:
        old = admin.upload(collection, "rota.txt", OLD)
        wait_for_sessions(1)
        new = admin.upload(collection, "rota.txt", NEW)
        wait_for_sessions(2)

    assert admin.settled(new)["state"] == "indexed"
    assert admin.call("GET", f"/api/v1/documents/{old['id']}").status_code == 404
    assert told(site, old) == ["indexed 1", "deleted 1"]
    assert told(site, new) == ["indexed 1"]


def test_a_document_deleted_while_it_is_finished_is_deleted_without_a_deadlock(
    site: Site, admin: Person, collection: str
) -> None:
    log = (site.folder / "worker.log").stat().st_size
    with ThreadPoolExecutor(1) as pool:
        with held(site, "passages") as wait_for_sessions:
            document = admin.upload(collection, "rota.txt", OLD)
            wait_for_sessions(1)
            deletion = pool.submit(admin.call, "DELETE", f"/api/v1/documents/{document['id']}")
            wait_for_sessions(2)
        assert deletion.result().status_code == 204

    after = admin.settled(admin.upload(collection, "after.txt", b"All is well."))
    assert after["state"] == "indexed"
    assert told(site, document) == ["indexed 1", "deleted 1"]
    assert "deadlock" not in (site.folder / "worker.log").read_text()[log:]


def test_one_failure_in_the_middle_of_a_large_document_costs_one_batch(
    site: Site, admin: Person, collection: str
) -> None:
    words = " ".join(f"Crane number {number} lifts {number} tonnes, no less and no more." for number in range(900))
    site.ollama.chokes_on, site.ollama.chokes = "Crane number 700 ", 1
    before = site.ollama.embedded

    document = admin.settled(admin.upload(collection, "cranes.txt", words.encode()))

    assert (document["state"], site.ollama.chokes) == ("indexed", 0)
    assert site.ollama.embedded - before == document["passages"] > 20


def test_a_document_that_every_host_fails_at_is_failed_with_their_reason(
    site: Site, admin: Person, collection: str
) -> None:
    site.ollama.chokes_on, site.ollama.chokes = "walrus", 1000

    document = admin.settled(admin.upload(collection, "walrus.txt", b"The walrus is on leave."))
    other = admin.settled(admin.upload(collection, "seal.txt", b"The seal is at work."))

    assert (document["state"], other["state"]) == ("failed", "indexed")
    assert document["error"].endswith("a host that does not fail at it (the runner ended as told)")


def test_a_worker_has_as_many_connections_as_its_threads_need(site: Site, admin: Person, collection: str) -> None:
    configuration = site.folder / "threads.toml"
    given = (site.folder / "rag.toml").read_text()
    configuration.write_text(
        given.replace("pool_size = 8", "pool_size = 1").replace("[ingest]", "[ingest]\nthreads = 3")
    )
    site.worker.stop()
    worker = Process(site.worker.command, {**site.environment, "RAG_CONFIG": str(configuration)}, site.worker.log)
    # Longer than a lease, so that each of the three must be kept.
    site.ollama.embed_seconds = 3
    worker.launch()
    try:
        uploads = [admin.upload(collection, f"{n}.txt", f"Crane {n} lifts nine tonnes.".encode()) for n in range(3)]
        assert [admin.settled(document)["state"] for document in uploads] == ["indexed"] * 3
    finally:
        worker.stop()


def test_a_lease_outlives_a_moment_without_a_free_connection(
    site: Site, admin: Person, collection: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.worker.stop()
    document = admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes.")
    with site.database.begin() as connection:
        job = jobs.take(connection, "this test", 60)
    assert job
    small = create_engine(site.database.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    ingest = Ingest(lease_seconds=0.9)
    worker = Worker(SETTINGS.model_copy(update={"ingest": ingest}), small, ollama.Client(), threading.Event())

    def lease() -> object:
        with site.database.connect() as connection:
            return connection.execute(text("select lease_until from jobs where id = :id"), {"id": job.id}).scalar_one()

    taken = lease()
    with small.connect() as only, _leases(worker, [job]) as (held,):
        wait_for("a try without a connection", lambda: "not extended" in caplog.text, 5)
        only.close()
        wait_for("the lease is extended", lambda: lease() != taken, 5)

    assert not held.lost.is_set()
    small.dispose()
    admin.call("DELETE", f"/api/v1/documents/{document['id']}")


def told(site: Site, document: dict[str, Any]) -> list[str]:
    """What every index was told of the document."""
    statement = text("select kind, passages from changes where document_id = :id order by xid, seq")
    with site.database.connect() as connection:
        return [f"{row.kind} {row.passages}" for row in connection.execute(statement, {"id": UUID(document["id"])})]


def test_a_document_waits_for_a_host_whose_service_is_starting(site: Site, admin: Person, collection: str) -> None:
    site.ollama.starting = True
    document = admin.upload(collection, "gate.txt", b"The gate opens at nine.")

    def waits() -> bool:
        return "waiting" in (admin.get(f"/api/v1/documents/{document['id']}")["error"] or "")

    wait_for("the document waits", waits, seconds=60)
    site.ollama.starting = False

    assert admin.settled(document)["state"] == "indexed"
