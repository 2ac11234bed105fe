"""Every write whose commit arrived and whose answer got lost: it is repeated, and done once.

Each caller of ``writing`` stands here with what it leaves behind.
"""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from app import metrics
from app.api.recorder import Recorder
from app.inference import worker_client
from app.ingest.worker import Worker, work_once
from app.settings import load
from app.store import documents, jobs, questions
from app.store.audit import Actor
from app.store.database import engine
from app.store.documents import Upload
from app.store.questions import Question
from tests.app.servers import Process, free_port, ours
from tests.app.site import PASSWORD, Person, Site
from tests.app.wire import Wire


@pytest.fixture(scope="module")
def wire(site: Site) -> Iterator[Wire]:
    made = Wire(site.postgresql.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quiet(wire: Wire) -> Iterator[None]:
    yield
    wire.losing = False


@pytest.fixture(scope="module")
def api(site: Site, wire: Wire) -> Iterator[httpx.Client]:
    """Another API of the same site, behind the wire."""
    port = free_port()
    process = behind_wire(site, wire, ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"], port)
    process.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        yield client
    process.stop()


@pytest.fixture
def far(api: httpx.Client, admin: Person) -> Person:
    """The administrator, at that API."""
    return Person(api, admin.token)


def configuration_behind(site: Site, wire: Wire, api_port: int) -> str:
    given = (site.folder / "rag.toml").read_text().replace(f"port = {site.postgresql.port}", f"port = {wire.port}")
    api = site.http.base_url.port
    path = site.folder / f"wire-{api_port}.toml"
    path.write_text(
        given.replace(f"api = {api}", f"api = {api_port}").replace("write_seconds = 4", "write_seconds = 20")
    )
    return str(path)


def behind_wire(site: Site, wire: Wire, command: list[str], port: int) -> Process:
    own = {"RAG_CONFIG": configuration_behind(site, wire, port), "RUNTIME_DIRECTORY": str(site.folder / f"run-{port}")}
    return ours(command, {**site.environment, **own}, site.folder / "wire.log", f"http://127.0.0.1:{port}/health/live")


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


def rows(site: Site, statement: str, **values: Any) -> list[Any]:
    with site.database.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), values)]


def told(site: Site, document: dict[str, Any]) -> list[str]:
    statement = "select kind || ' ' || passages from changes where document_id = :id order by xid, seq"
    return [row[0] for row in rows(site, statement, id=UUID(document["id"]))]


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

    assert (renewed.status_code, known.status_code, out.status_code, wire.lost) == (200, 200, 204, 2)
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
        answer="90 days", supported=True, citations=[], model="chat", seconds=1.0, asked_at=datetime.now(UTC),
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

    assert (result.stdout, result.returncode, wire.lost) == ("changed\n", 0, 1), result.stderr
    assert again.stdout == "unchanged\n"
