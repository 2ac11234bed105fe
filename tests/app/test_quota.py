"""How much one person may keep: told before, refused beyond, also when many uploads come at once."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import text

from tests.app.browser import window
from tests.app.hosts import another_host
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site

MOST = {"bytes_per_person": 10_000, "documents_per_person": 3}


@pytest.fixture(scope="module")
def host(site: Site) -> Iterator[httpx.Client]:
    """Another API on the same database, where one person may keep little."""
    with another_host(site, **MOST) as client:
        yield client


@pytest.fixture
def person(site: Site, host: httpx.Client) -> Person:
    return Person(host, site.add_user().token)


def upload(person: Person, collection: str, content: bytes, name: str = "a.txt") -> httpx.Response:
    return person.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": (name, content)})


def test_beyond_the_quota_an_upload_is_refused_and_leaves_nothing(person: Person) -> None:
    mine = person.make_collection()
    assert upload(person, mine, b"a" * 6000).status_code == 202

    refused = upload(person, mine, b"b" * 6000)

    assert refused.status_code == 403
    assert refused.json()["detail"] == "documents = 12000 bytes of yours with this one; at most 10000"
    assert person.get("/api/v1/me/storage") == {
        "documents": 1, "bytes": 6000, "most_documents": 3, "most_bytes": 10_000
    }  # fmt: skip
    # The same bytes take no more room, and what was deleted makes room.
    again = upload(person, mine, b"a" * 6000)
    assert again.status_code == 202
    assert person.call("DELETE", f"/api/v1/documents/{again.json()['id']}").status_code == 204
    assert upload(person, mine, b"b" * 6000).status_code == 202


def test_many_uploads_at_once_take_no_more_than_there_is(person: Person) -> None:
    # In one collection they would wait for each other anyway.
    mine = [person.make_collection() for _ in range(12)]

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(upload, person, one, one.encode()) for one in mine]
        statuses = Counter(answer.result().status_code for answer in answers)

    assert statuses == {202: 3, 403: 9}
    assert person.get("/api/v1/me/storage")["documents"] == 3


def test_whoever_waits_for_their_own_uploads_keeps_nobody_else_waiting(
    site: Site, host: httpx.Client, person: Person
) -> None:
    mine = [person.make_collection() for _ in range(12)]
    other = Person(host, site.add_user().token)
    theirs = other.make_collection()
    statement = text("select pg_advisory_xact_lock(hashtextextended('quota ' || :user, 0))")
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    with ThreadPoolExecutor(12) as pool:
        with site.database.begin() as slow:
            # As an upload does that takes its time.
            slow.execute(statement, {"user": person.get("/api/v1/me")["id"]})
            uploads = [pool.submit(upload, person, one, one.encode()) for one in mine]
            with site.database.connect() as connection:
                wait_for("one waits", lambda: connection.execute(waiting).scalar_one())

            assert upload(other, theirs, b"Number 0").status_code == 202
        statuses = Counter(one.result().status_code for one in uploads)
    assert statuses[202] == 3
    assert statuses[202] + statuses[403] == 12


def test_one_persons_quota_is_not_anothers_and_where_none_is_set_there_is_none(
    site: Site, host: httpx.Client, person: Person
) -> None:
    mine = person.make_collection()
    for number in range(3):
        assert upload(person, mine, f"Number {number}".encode(), f"{number}.txt").status_code == 202
    other = Person(host, site.add_user().token)
    assert upload(other, other.make_collection(), b"Number 0").status_code == 202

    unbounded = Person(site.http, person.token)
    assert upload(unbounded, mine, b"Number 4").status_code == 202
    assert unbounded.get("/api/v1/me/storage")["most_bytes"] is None


def test_the_page_tells_how_much_of_it_is_taken(site: Site, host: httpx.Client, browser: Browser) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]
    there = Person(host, person.token)
    upload(there, there.make_collection(), b"a" * 6000)

    with window(browser, str(host.base_url)) as opened:
        opened.sign_in(name, PASSWORD)
        opened.page.goto("/collections")
        expect(opened.page.locator("#storage")).to_have_text(
            "You keep 1 of at most 3 documents, 6.0 kB of at most 10 kB."
        )
