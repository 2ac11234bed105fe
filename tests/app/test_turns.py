"""Documents read while others are embedded: how far ahead, and what becomes of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.app.servers import wait_for
from tests.app.site import Person, Site


@pytest.fixture
def hanging(site: Site, admin: Person, collection: str) -> Iterator[None]:
    """An inference host that takes calls for vectors and answers none, until the test lets it; two are under way."""
    site.ollama.holds = site.ollama.holds_embeddings = True
    for number in range(2):
        admin.upload(collection, f"first-{number}.txt", b"Crane %d lifts nine tonnes." % number)
    wait_for("two are being embedded", lambda: site.ollama.embedding == 2)
    yield
    site.ollama.holds = False


def test_while_the_inference_hosts_are_at_work_a_document_is_read(
    site: Site, admin: Person, collection: str, hanging: None
) -> None:
    unreadable = admin.settled(admin.upload(collection, "noise.txt", bytes(range(256)) * 20))

    assert (unreadable["state"], site.ollama.embedding) == ("failed", 2)


def test_a_host_that_hangs_holds_as_many_documents_as_turns_and_the_rest_waits_in_the_queue(
    site: Site, admin: Person, collection: str, hanging: None
) -> None:
    ahead = [admin.upload(collection, f"{n}.txt", b"Gate %d opens at nine." % n) for n in range(6)]
    wait_for("two are read ahead", lambda: counted(site) == {"embedding": 2, "parsing": 2, "queued": 4})
    # Each holds its lease, and none goes on though the queue is looked at again and again.
    wait_for("leases are extended", lambda: extended(site, 4))
    assert counted(site) == {"embedding": 2, "parsing": 2, "queued": 4}

    gone = next(one for one in ahead if admin.get(f"/api/v1/documents/{one['id']}")["state"] == "parsing")
    assert admin.call("POST", f"/api/v1/documents/{gone['id']}/cancel").status_code == 202
    wait_for(
        "another is read in its place",
        lambda: counted(site) == {"cancelled": 1, "embedding": 2, "parsing": 2, "queued": 3},
    )

    site.ollama.holds = False
    states = {one["id"]: admin.settled(one)["state"] for one in ahead}
    assert states == {one["id"]: "cancelled" if one is gone else "indexed" for one in ahead}


def test_whoever_waits_for_an_inference_host_goes_back_to_the_queue_when_the_worker_stops(
    site: Site, admin: Person, collection: str, hanging: None
) -> None:
    ahead = [admin.upload(collection, f"{n}.txt", b"Gate %d opens at nine." % n) for n in range(2)]
    wait_for("two are read ahead", lambda: counted(site) == {"embedding": 2, "parsing": 2})

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(site.worker.stop)
        wait_for("they are back", lambda: counted(site) == {"embedding": 2, "queued": 2})
        site.ollama.holds = False
        assert stopped.result() == 0

    site.worker.start()
    assert {admin.settled(one)["state"] for one in ahead} == {"indexed"}


def counted(site: Site) -> dict[str, int]:
    """The states of documents of which somebody still wants something, or that were given up, in this collection."""
    statement = text(
        "select state, count(*) from documents where collection_id ="
        " (select collection_id from documents order by created_at desc limit 1) and state <> 'indexed' group by state"
    )
    with site.database.connect() as connection:
        return {row.state: row.count for row in connection.execute(statement)}


def extended(site: Site, number: int) -> bool:
    statement = text(
        "select count(*) from jobs j join documents d on d.id = j.document_id"
        " where lease_until > d.changed_at + interval '2.5 seconds'"
    )
    with site.database.connect() as connection:
        return bool(connection.execute(statement).scalar_one() == number)
