"""How much one person may ask for, on whichever host, and how long it is kept."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Connection, create_engine, text

from app.api.problems import Problem
from app.api.rates import Rates
from app.ingest.housekeeping import purge
from app.settings import Rates as Most
from app.settings import Retention
from app.store import retention
from tests.app import formats
from tests.app.hosts import another_host
from tests.app.servers import wait_for
from tests.app.site import Person, Site

QUESTION = "How long is the notice period of the Halden contract?"


@pytest.fixture(scope="module")
def two_hosts(site: Site) -> Iterator[list[httpx.Client]]:
    """Two more APIs on the same database, where each person may do little."""
    little = {"questions_per_minute": 3, "searches_per_minute": 4, "uploads_per_minute": 2}
    with another_host(site, **little) as one, another_host(site, **little) as other:
        yield [one, other]


@pytest.fixture
def person(site: Site) -> Person:
    return site.add_user()


def on(client: httpx.Client, person: Person) -> Person:
    return Person(client, person.token)


@pytest.mark.parametrize(
    ("kind", "most", "path"),
    [("questions", 3, "/api/v1/questions"), ("searches", 4, "/api/v1/search"), ("uploads", 2, "/api/v1/collections/")],
)
def test_the_limit_holds_over_both_hosts_and_says_when_to_come_back(
    site: Site, two_hosts: list[httpx.Client], person: Person, kind: str, most: int, path: str
) -> None:
    collection = person.make_collection()

    def call(host: int) -> httpx.Response:
        there = on(two_hosts[host % 2], person)
        if kind == "questions":
            return there.call("POST", path, json={"collection": collection, "question": QUESTION})
        if kind == "searches":
            return there.call("GET", path, params={"collection": collection, "q": "notice"})
        return there.call("POST", f"{path}{collection}/documents", files={"file": ("a.txt", f"Number {host}".encode())})

    # A minute that ends in the middle begins anew.
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 8, 15)
    answers = [call(number) for number in range(most + 1)]

    assert [answer.status_code < 300 for answer in answers] == [True] * most + [False]
    refused = answers[-1]
    assert refused.status_code == 429
    assert refused.json()["detail"] == f"{kind} = {most + 1} in a minute; at most {most}"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.json()["retry_after"] == int(refused.headers["retry-after"])


def seconds_left(site: Site) -> float:
    with site.database.connect() as connection:
        return float(connection.execute(text("select 60 - extract(second from now())")).scalar_one())


def test_one_persons_limit_is_not_anothers_and_openais_clients_hear_it_in_their_shape(
    site: Site, two_hosts: list[httpx.Client], person: Person
) -> None:
    collection = person.make_collection()
    there = on(two_hosts[0], person)
    body = {"model": collection, "messages": [{"role": "user", "content": "Why is that?"}]}
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 8, 15)
    answers = [there.call("POST", "/v1/chat/completions", json=body) for _ in range(4)]
    other = on(two_hosts[0], site.add_user()).call("POST", "/v1/chat/completions", json=body)

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert other.status_code == 404


def test_without_a_primary_each_process_counts_by_itself_and_no_question_waits(
    site: Site, two_hosts: list[httpx.Client], admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    there = on(two_hosts[0], admin)
    with site.database.begin() as connection:
        connection.execute(text("delete from rates"))
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 12, 20)
    site.postgresql.demote()
    try:
        body = {"collection": collection, "question": QUESTION}
        statuses = [there.call("POST", "/api/v1/questions", json=body).status_code for _ in range(4)]
        other = on(two_hosts[1], admin).call("POST", "/api/v1/questions", json=body).status_code
    finally:
        site.postgresql.promote()

    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 429
    assert other == 200


def test_a_primary_that_is_slow_is_not_waited_for(site: Site) -> None:
    slow = create_engine(site.database.url, pool_size=1)
    asker = uuid4()

    async def story() -> list[bool]:
        rates = Rates(slow, Most(questions_per_minute=3))
        allowed = []
        for _ in range(5):
            try:
                async with asyncio.timeout(1):
                    await rates.take(asker, "questions")
            except Problem:
                allowed.append(False)
            else:
                allowed.append(True)
        rates.close()
        return allowed

    with site.database.begin() as connection:
        connection.execute(text("lock table rates in access exclusive mode"))
        allowed = asyncio.run(story())
    slow.dispose()

    assert allowed == [True, True, True, False, False]


def test_what_is_older_than_the_site_keeps_is_purged_with_feedback_and_empty_conversations(site: Site) -> None:
    old, young, deleted = uuid4(), uuid4(), uuid4()
    asked = {old: "40 days", young: "20 days"}
    with site.database.begin() as connection:
        admin = connection.execute(text("select id from users where name = 'admin'")).scalar_one()
        for identifier, age in asked.items():
            remembered(connection, admin, identifier, age)
        remembered(connection, admin, deleted, "2 days")
        connection.execute(text("update conversations set deleted = true where id = :id"), {"id": deleted})

    purge(site.database, Retention(), threading.Event())
    kept = left(site)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(purge, site.database, Retention(conversation_days=30), threading.Event()) for _ in range(2)]
        for one in done:
            one.result()

    assert kept >= {old, young}
    assert deleted not in kept
    assert left(site) & {old, young} == {young}
    with site.database.connect() as connection:
        rows = text("select count(*) from feedback where question_id in (:old, :young)")
        assert connection.execute(rows, {"old": old, "young": young}).scalar_one() == 1


def test_only_one_worker_purges_at_a_time(site: Site) -> None:
    old = uuid4()
    with site.database.begin() as connection:
        admin = connection.execute(text("select id from users where name = 'admin'")).scalar_one()
        remembered(connection, admin, old, "40 days")
    with site.database.begin() as first, site.database.begin() as second:
        assert retention.purge(first, 30).questions == 1
        assert retention.purge(second, 30).questions == 0


def remembered(connection: Connection, user: UUID, identifier: UUID, age: str) -> None:
    """A question of that age with feedback, in a conversation of its own; all of them have this id."""
    values = {"id": identifier, "user": user, "age": age}
    for statement in (
        "insert into conversations (id, user_id, collection_id, title, created_at, changed_at)"
        " values (:id, :user, :id, 't', now() - cast(:age as interval), now() - cast(:age as interval))",
        "insert into questions (id, user_id, collection_id, question, answer, supported, citations, model, seconds,"
        " asked_at) values (:id, :user, :id, 'q', 'a', true, '[]', 'm', 1, now() - cast(:age as interval))",
        "insert into turns (question_id, conversation_id) values (:id, :id)",
        "insert into feedback (question_id, verdict) values (:id, 'up')",
    ):
        connection.execute(text(statement), values)


def left(site: Site) -> set[UUID]:
    with site.database.connect() as connection:
        return set(connection.execute(text("select id from conversations")).scalars())
