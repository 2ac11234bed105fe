"""Many documents on a bad day: worker, API and Chroma are killed in the middle, nothing is lost and nothing doubled."""

import contextlib
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
from sqlalchemy import text

from tests.app.servers import Process, wait_for
from tests.app.site import Person, Site
from tests.app.test_removal import Chroma, id_of, passages

DOCUMENTS = 200
KILLS_OF_EACH = 3


def test_two_hundred_documents_outlive_the_death_of_every_part_and_are_indexed_once(
    site: Site, admin: Person, collection: str
) -> None:
    collection_id = id_of(site, collection)
    site.ollama.embed_seconds = 0.03
    path = f"/api/v1/collections/{collection}/documents"

    def upload(number: int) -> str:
        """As a person does: sent again until it is acknowledged."""
        content = f"Crane {number} lifts {number} tonnes. It is green.".encode()
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = admin.call("POST", path, files={"file": (f"{number}.txt", content)})
                if answer.status_code == 202:
                    return str(answer.json()["id"])
            threading.Event().wait(0.1)

    def state(name: str) -> int:
        statement = text("select count(*) from documents where collection_id = :id and state = :state")
        with site.database.connect() as connection:
            return int(connection.execute(statement, {"id": collection_id, "state": name}).scalar_one())

    with ThreadPoolExecutor(8) as pool:
        uploads = [pool.submit(upload, number) for number in range(DOCUMENTS)]
        killed = kill_at_random([site.worker, site.api, site.chroma])
        ids = {future.result(timeout=120) for future in uploads}

    assert (len(ids), killed) == (DOCUMENTS, KILLS_OF_EACH * 3)
    wait_for("every document is indexed", lambda: state("indexed") == DOCUMENTS, 120)
    site.wait_until_ready()
    site.wait_until_in_step()
    told = text("select document_id, kind from changes where collection_id = :id")
    with site.database.connect() as connection:
        changes = sorted((str(row.document_id), row.kind) for row in connection.execute(told, {"id": collection_id}))
        jobs = connection.execute(text("select count(*) from jobs")).scalar_one()
    assert changes == [(document, "indexed") for document in sorted(ids)]
    assert jobs == 0
    assert passages(site, collection_id) == Chroma(site).ids(collection_id) == {f"{document}:0" for document in ids}


def kill_at_random(processes: list[Process]) -> int:
    """Each is killed a few times, as the kernel does it, and started again; the order is another one every time."""
    chance = random.SystemRandom()
    victims = processes * KILLS_OF_EACH
    chance.shuffle(victims)
    for victim in victims:
        threading.Event().wait(chance.uniform(0.1, 0.9))
        victim.stop(signal.SIGKILL)
        victim.launch()
    return len(victims)
