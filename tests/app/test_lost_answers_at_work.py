"""The same beside the API: worker, recorder and migration repeat what was done, and do it once."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from app import metrics
from app.api.recorder import Recorder
from app.inference import worker_client
from app.ingest.embed import Worker
from app.ingest.worker import work_once
from app.settings import load
from app.store import jobs, questions
from app.store.audit import Actor
from app.store.database import engine
from app.store.questions import Question
from tests.app.site import Person, Site
from tests.app.wire import Wire, configuration_behind, rows, told


@pytest.fixture
def worker(site: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker behind the wire, the only one; each test lets it work once."""
    site.worker.stop()
    with site.database.begin() as connection:
        connection.execute(text("delete from documents where state <> 'indexed'"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setenv("RAG_CONFIG", configuration_behind(site, wire, 1))
    settings = load()
    # No lease is extended meanwhile, so that each commit of the story is lost exactly once.
    ingest = settings.ingest.model_copy(update={"lease_seconds": 300, "retry_seconds": 0.05})
    primary = engine(settings.database, "read-write")
    settings = settings.model_copy(update={"ingest": ingest})
    yield Worker(settings, primary, worker_client(settings.inference), threading.Event())
    primary.dispose()


def test_a_job_is_taken_begun_and_published_once(
    site: Site, wire: Wire, worker: Worker, admin: Person, collection: str
) -> None:
    old = admin.upload(collection, "rota.txt", b"On Friday the cook is Ada.")
    assert work_once(worker)
    new = admin.upload(collection, "rota.txt", b"On Friday the cook is Grace.")
    before = metrics.DOCUMENTS.labels("indexed")._value.get(), metrics.DOCUMENTS.labels("retried")._value.get()
    wire.lose_every_other()

    assert work_once(worker)

    wire.losing = False
    # Four transactions: take, begin, go on to embedding, publish.
    assert wire.lost == 4
    after = metrics.DOCUMENTS.labels("indexed")._value.get(), metrics.DOCUMENTS.labels("retried")._value.get()
    assert after == (before[0] + 1, before[1])
    assert admin.get(f"/api/v1/documents/{new['id']}")["state"] == "indexed"
    assert told(site, old) == ["indexed 1", "deleted 1"]
    assert told(site, new) == ["indexed 1"]
    assert rows(site, "select ordinal from passages where document_id = :id", id=UUID(new["id"])) == [(0,)]
    assert rows(site, "select 1 from jobs") == []


def test_a_job_taken_twice_by_one_owner_is_one_job_and_one_attempt(
    site: Site, worker: Worker, admin: Person, collection: str
) -> None:
    for number in range(2):
        admin.upload(collection, f"{number}.txt", f"Crane {number}.".encode())

    with worker.primary.begin() as connection:
        taken = [jobs.take(connection, "one", 300), jobs.take(connection, "one", 300)]
        other = jobs.take(connection, "two", 300)

    assert taken[0] == taken[1]
    assert taken[0] is not None
    assert taken[0].attempts == 1
    assert other is not None
    assert other.id != taken[0].id


def test_a_document_that_cannot_be_read_fails_once(
    site: Site, wire: Wire, worker: Worker, admin: Person, collection: str
) -> None:
    document = admin.upload(collection, "script.pdf", b"#!/bin/sh")
    wire.lose_every_other()

    assert work_once(worker)

    wire.losing = False
    assert wire.lost == 3
    failed = admin.get(f"/api/v1/documents/{document['id']}")
    assert (failed["state"], bool(failed["error"])) == ("failed", True)
    assert rows(site, "select 1 from jobs") == []


def test_a_job_given_back_stays_untried_and_free(
    site: Site, wire: Wire, worker: Worker, admin: Person, collection: str
) -> None:
    document = admin.upload(collection, "later.txt", b"This one has to wait.")
    site.ollama.stop()
    wire.lose_every_other()

    assert work_once(worker)

    wire.losing = False
    assert wire.lost == 4
    assert "waiting: inference" in admin.get(f"/api/v1/documents/{document['id']}")["error"]
    assert rows(site, "select attempts, owner from jobs") == [(0, None)]


def test_a_lease_lost_while_waiting_for_a_primary_is_noticed_before_the_work(
    site: Site, worker: Worker, admin: Person, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = admin.upload(collection, "rota.txt", b"On Friday the cook is Ada.")
    take = jobs.take

    def taken_and_lost(*arguments: Any) -> Any:
        job = take(*arguments)
        arguments[0].execute(text("update jobs set owner = 'another'"))
        return job

    monkeypatch.setattr(jobs, "take", taken_and_lost)
    assert work_once(worker)

    assert admin.get(f"/api/v1/documents/{document['id']}")["state"] == "queued"
    assert rows(site, "select owner from jobs") == [("another",)]


def test_a_question_is_recorded_once(site: Site, wire: Wire, worker: Worker) -> None:
    asker = UUID(site.add_user().get("/api/v1/me")["id"])
    question = Question(
        id=uuid4(), conversation_id=uuid4(), user_id=asker, collection_id=uuid4(), question="Notice period?",
        answer="90 days", supported=True, citations=[], closest=[],
        model="chat", seconds=1.0, asked_at=datetime.now(UTC),
    )  # fmt: skip
    wire.lose_every_other()

    asyncio.run(recorded(worker.primary, question))

    assert wire.lost == 2
    with site.database.connect() as connection:
        assert [entry.id for entry in questions.of_user(connection, asker, 10)].count(question.id) == 1
    noted = "select actor from audit where action = 'question.ask' and object = :object"
    assert rows(site, noted, object=f"questions/{question.id}") == [("ada",)]


async def recorded(primary: Engine, question: Question) -> None:
    recorder = Recorder(primary)
    recorder.record(question, Actor("ada"), "manuals")
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(known, primary, question):
            await asyncio.sleep(0.05)
    # One more, behind which nothing is left of the first.
    later = replace(question, id=uuid4())
    recorder.record(later, Actor("ada"), "manuals")
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(known, primary, later):
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    recorder.close()


def known(primary: Engine, question: Question) -> bool:
    with primary.connect() as connection:
        return question.id in {entry.id for entry in questions.of_user(connection, question.user_id, 10)}


def test_a_migration_whose_answer_got_lost_says_that_it_changed_something(site: Site, wire: Wire) -> None:
    name = f"m{uuid4().hex[:8]}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    path = site.folder / f"{name}.toml"
    given = (site.folder / "rag.toml").read_text().replace(f"port = {site.postgresql.port}", f"port = {wire.port}")
    path.write_text(given.replace("[database]", f'[database]\nname = "{name}"'))
    wire.lose_every_other()

    result = site.run("app.store.migrate", RAG_CONFIG=str(path))
    wire.losing = False
    again = site.run("app.store.migrate", RAG_CONFIG=str(path))

    assert (result.stdout, result.returncode) == ("changed\n", 0), result.stderr
    assert wire.lost
    assert again.stdout == "unchanged\n"
