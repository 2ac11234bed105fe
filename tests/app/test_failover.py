"""The primary goes, a replica takes its place or does not yet: what writers, readers and askers notice."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app.api.problems import Problem, translated
from app.api.writers import MOST_WAITING, Writers
from app.settings import Database
from app.store.database import engine, reading
from tests.app import formats
from tests.app.pair import Pair, pair_of
from tests.app.servers import free_port, wait_for
from tests.app.site import PASSWORD, Person, Site

WRITE_SECONDS = 15


@pytest.fixture
def pair(site: Site, write_seconds: int) -> Iterator[Pair]:
    with pair_of(site, write_seconds=write_seconds) as made:
        yield made


@pytest.fixture
def write_seconds() -> int:
    return 30


@dataclass
class Ledger:
    """What was acknowledged, and every other answer."""

    acknowledged: dict[str, list[str]] = field(default_factory=lambda: {"user": [], "collection": [], "document": []})
    refused: list[str] = field(default_factory=list)
    longest: float = 0.0

    @property
    def length(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def note(self, kind: str, call: Callable[[], httpx.Response], key: str) -> None:
        began = time.monotonic()
        answer = call()
        self.longest = max(self.longest, time.monotonic() - began)
        if answer.is_success:
            self.acknowledged[kind].append(answer.json()[key])
        else:
            self.refused.append(f"{kind} {answer.status_code} {answer.text}")


def write(pair: Pair, ledger: Ledger, stop: threading.Event) -> None:
    admin = pair.admin
    while not stop.is_set():
        name = f"n{uuid4().hex[:12]}"
        user = {"name": name, "password": PASSWORD}
        ledger.note("user", lambda user=user: admin.call("POST", "/api/v1/users", json=user), "id")
        ledger.note(
            "collection", lambda name=name: admin.call("POST", "/api/v1/collections", json={"name": name}), "name"
        )
        file = {"file": (f"{name}.txt", f"Crane {name} lifts nine tonnes.".encode())}
        path = f"/api/v1/collections/{name}/documents"
        ledger.note("document", lambda path=path, file=file: admin.call("POST", path, files=file), "id")


def ask(pair: Pair, answers: Counter[int], stop: threading.Event) -> None:
    body = {"collection": "asked", "question": "How long is the notice period?"}
    while not stop.is_set():
        answers[pair.admin.call("POST", "/api/v1/questions", json=body).status_code] += 1


def with_a_document(pair: Pair) -> dict[str, Any]:
    pair.admin.call("POST", "/api/v1/collections", json={"name": "asked"})
    document = pair.admin.settled(pair.admin.upload("asked", "contract.txt", formats.contract("contract.txt")))
    there = "select 1 from documents where state = 'indexed'"
    wait_for("the replica has the document", lambda: pair.rows(there))
    return document


def test_a_killed_primary_loses_nothing_doubles_nothing_and_fails_nothing(pair: Pair) -> None:
    with_a_document(pair)
    ledger, answers, stop = Ledger(), Counter[int](), threading.Event()
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(write, pair, ledger, stop) for _ in range(5)]
        running.append(pool.submit(ask, pair, answers, stop))
        try:
            wait_for("writes are acknowledged", lambda: ledger.length > 12, 90)
            pair.primary.kill()
            asked = answers[200]
            wait_for("a question is answered without a primary", lambda: answers[200] > asked, 60)
            pair.replica.promote()
            until = ledger.length + 12
            wait_for("writes are acknowledged again", lambda: ledger.length > until, 90)
        finally:
            stop.set()
        for future in running:
            future.result()

    assert ledger.refused == []
    assert set(answers) == {200}
    there = {
        "user": Counter(row[0] for row in pair.rows("select cast(id as text) from users where name <> 'admin'")),
        "collection": Counter(row[0] for row in pair.rows("select name from collections where name <> 'asked'")),
        "document": Counter(
            row[0] for row in pair.rows("select cast(id as text) from documents where file_name <> 'contract.txt'")
        ),
    }
    for kind, found in there.items():
        # As nothing failed, nothing is there either that nobody was told of.
        assert found == Counter(ledger.acknowledged[kind]), kind
    wait_for("every document is indexed", lambda: not pair.rows("select 1 from documents where state <> 'indexed'"), 90)
    doubled = "select document_id from changes group by document_id having count(*) <> 1"
    assert pair.rows(doubled) == []


@pytest.mark.parametrize("write_seconds", [WRITE_SECONDS])
def test_without_a_primary_everything_is_read_and_fifty_writers_hold_up_no_question(pair: Pair) -> None:
    document = with_a_document(pair)
    pair.primary.stop()

    def writing(number: int) -> tuple[int, str | None, float]:
        began = time.monotonic()
        answer = pair.admin.call("POST", "/api/v1/collections", json={"name": f"c{number}"})
        return answer.status_code, answer.headers.get("retry-after"), time.monotonic() - began

    with ThreadPoolExecutor(50) as pool:
        writers = [pool.submit(writing, number) for number in range(50)]
        began = time.monotonic()
        signed_in = pair.http.post("/api/v1/token", data={"username": "admin", "password": PASSWORD})
        person = Person(pair.http, signed_in.json()["access_token"])
        answers = [person.ask("asked", "How long is the notice period?") for _ in range(3)]
        streamed = person.call(
            "POST", "/api/v1/questions", json={"collection": "asked", "question": "How long is it?", "stream": True}
        )
        reads = [
            person.call("GET", path).status_code
            for path in (
                "/api/v1/collections",
                "/api/v1/collections/asked",
                "/api/v1/collections/asked/documents",
                f"/api/v1/documents/{document['id']}",
                f"/api/v1/documents/{document['id']}/source",
                f"/api/v1/documents/{document['id']}/passages/0",
                "/api/v1/search?collection=asked&q=notice",
                "/api/v1/questions",
                "/health/live",
            )
        ]
        took = time.monotonic() - began
        still_waiting = sum(not writer.done() for writer in writers)

    assert [answer["supported"] for answer in answers] == [True] * 3
    assert "event: answer" in streamed.text
    assert reads == [200] * len(reads)
    assert still_waiting == 50, took
    statuses = [writer.result() for writer in writers]
    assert {(status, retry) for status, retry, _ in statuses} == {(503, "2")}
    assert all(WRITE_SECONDS - 1 < seconds < WRITE_SECONDS + 8 for *_, seconds in statuses), statuses


def test_more_writers_than_the_line_holds_are_told_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    nowhere = engine(Database(hosts=("127.0.0.1",), port=free_port()), "read-write", 20)
    told: list[tuple[float, Problem]] = []

    async def crowd() -> None:
        writers = Writers(nowhere, 4, seconds=2)
        began = time.monotonic()

        async def write() -> None:
            try:
                await writers.write(lambda connection: connection.execute(text("select 1")))
            except (Problem, DBAPIError) as error:
                told.append((time.monotonic() - began, translated(error)))

        await asyncio.gather(*(write() for _ in range(MOST_WAITING + 30)))
        writers.close()

    asyncio.run(crowd())

    assert {(problem.status, problem.retry) for _, problem in told} == {(503, True)}
    at_once = [seconds for seconds, problem in told if problem.error.endswith("fewer writes at a time")]
    assert (len(told), len(at_once)) == (MOST_WAITING + 30, 30)
    assert max(at_once) < 1
    assert max(seconds for seconds, _ in told) < 4


def test_a_frozen_replica_costs_a_reader_seconds_and_no_question(pair: Pair) -> None:
    with_a_document(pair)
    with pair.replica.frozen():
        began = time.monotonic()
        assert pair.admin.get("/api/v1/me")["name"] == "admin"
        took = time.monotonic() - began
        answers = [pair.admin.ask("asked", "How long is the notice period?") for _ in range(5)]

    # An unanswered ping, and one try to get in.
    assert took < 6
    assert [answer["supported"] for answer in answers] == [True] * 5


@pytest.fixture
def both(pair: Pair, monkeypatch: pytest.MonkeyPatch, site: Site) -> Iterator[Engine]:
    """Connections of a part that the test runs by itself, to a replica where there is one."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    made = engine(Database(hosts=("127.0.0.1", "127.0.0.2"), port=pair.primary.port), "prefer-standby", 20)
    yield made
    made.dispose()


def test_a_server_that_fell_silent_is_waited_for_once_and_used_again_when_it_speaks(pair: Pair, both: Engine) -> None:
    def lands_on() -> str:
        both.dispose()
        asked = text("select host(inet_server_addr())")
        return reading(both, lambda connection: str(connection.execute(asked).scalar_one()))

    assert lands_on() == pair.replica.address
    with pair.replica.frozen():
        began = time.monotonic()
        assert {lands_on() for _ in range(30)} == {pair.primary.address}
        took = time.monotonic() - began

    # Once two seconds at the silent door; thirty times would be a minute.
    assert took < 10
    wait_for("the replica is used again", lambda: lands_on() == pair.replica.address)


def test_with_every_server_silent_a_reader_hears_it_and_the_next_one_finds_them_back(pair: Pair, both: Engine) -> None:
    def read() -> int:
        return reading(both, lambda connection: int(connection.execute(text("select 1")).scalar_one()))

    with pair.replica.frozen(), pair.primary.frozen(), pytest.raises(DBAPIError, match="is silent"):
        read()

    wait_for("a server is found again", lambda: read() == 1)


def test_a_frozen_primary_costs_a_writer_seconds_once_another_is_there(pair: Pair) -> None:
    with_a_document(pair)
    with pair.primary.frozen():
        pair.replica.promote()
        began = time.monotonic()
        collection = pair.admin.make_collection()
        document = pair.admin.upload(collection, "rota.txt", b"On Friday the cook is Ada.")
        took = time.monotonic() - began

    assert took < 10
    assert pair.rows(f"select cast(id as text) from documents where id = '{document['id']}'") == [(document["id"],)]
