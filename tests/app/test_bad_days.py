"""Parts that fail, and what a person and the operator notice."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from tests.app import formats
from tests.app.servers import wait_for
from tests.app.site import Person, Site


def test_a_worker_killed_in_the_middle_costs_a_lease_and_no_document(
    site: Site, admin: Person, collection: str
) -> None:
    site.ollama.embed_seconds = 30
    document = admin.upload(collection, "contract.txt", formats.contract("contract.txt"))
    path = f"/api/v1/documents/{document['id']}"
    wait_for("the document is worked on", lambda: admin.get(path)["state"] == "embedding")

    site.worker.stop(signal.SIGKILL)
    site.ollama.embed_seconds = 0
    site.worker.launch()

    assert admin.settled(document)["state"] == "indexed"
    assert len(admin.search(collection, "notice period")["results"]) == 1


def test_a_stopped_worker_gives_its_document_back_at_once(site: Site, admin: Person, collection: str) -> None:
    site.ollama.embed_seconds = 0.5
    words = " ".join(f"Sentence {number} is about nothing in particular at all." for number in range(1000))
    document = admin.upload(collection, "long.txt", words.encode())
    path = f"/api/v1/documents/{document['id']}"
    wait_for("the document is worked on", lambda: admin.get(path)["state"] == "embedding")

    assert site.worker.stop() == 0

    assert admin.get(path)["state"] == "queued"
    with site.database.connect() as connection:
        attempts = connection.execute(text("select attempts from jobs where owner is null")).scalars().all()
    assert attempts == [0]
    admin.call("DELETE", path)


def test_without_inference_questions_get_503_and_documents_wait(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.ollama.stop()

    answer = admin.call("POST", "/api/v1/questions", json={"collection": collection, "question": "Notice period?"})
    found = admin.search(collection, "notice period")
    waiting = admin.upload(collection, "later.txt", b"This one has to wait.")

    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["detail"].startswith("inference = ")
    assert found["degraded"] == "inference"
    assert found["results"]
    path = f"/api/v1/documents/{waiting['id']}"
    wait_for("the document says why it waits", lambda: "waiting: inference" in str(admin.get(path)["error"]))
    site.ollama.start()
    assert admin.settled(waiting)["error"] is None


def test_more_questions_than_places_get_an_honest_503(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.ollama.answer_seconds = 2

    def status(_: int) -> int:
        body = {"collection": collection, "question": "How long is the notice period?"}
        return admin.call("POST", "/api/v1/questions", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(status, range(6)))

    assert statuses == [200, 200, 503, 503, 503, 503]


def test_readiness_names_the_part_that_is_sick(site: Site) -> None:
    site.ollama.stop()

    wait_for("inference is named", lambda: _sick(site) == ["inference"])


def test_vectors_of_another_embedding_model_make_the_host_not_ready(site: Site) -> None:
    with site.database.begin() as connection:
        connection.execute(text("insert into embedding_models (model, dimension) values ('other', 3)"))
    try:
        wait_for("the database is named", lambda: _sick(site) == ["database"])
        assert "other (3)" in site.readiness().json()["error"]
    finally:
        with site.database.begin() as connection:
            connection.execute(text("delete from embedding_models where model = 'other'"))


def test_without_chroma_the_host_is_not_ready_and_words_alone_still_answer(
    site: Site, admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.chroma.stop()

    found = admin.search(collection, "notice period")
    answer = admin.ask(collection, "How long is the notice period?")

    wait_for("the index is named", lambda: _sick(site) == ["index"])
    assert found["degraded"] == "index"
    assert "90 days" in answer["answer"]


def test_without_a_primary_questions_are_answered_and_recorded_later(
    site: Site, admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    question = "How long is the notice period of the Halden contract, please?"
    site.postgresql.demote()
    try:
        again = site.sign_in()
        answer = again.ask(collection, question)
        refused = again.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": ("a.txt", b"a")})
        ready = site.readiness()
    finally:
        site.postgresql.promote()

    assert answer["supported"]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert ready.status_code == 200
    wait_for("the record", lambda: question in [one["question"] for one in admin.get("/api/v1/questions")["items"]])
    assert admin.settled(admin.upload(collection, "b.txt", b"Written again."))["state"] == "indexed"


def test_a_lost_index_refills_from_postgresql_without_inference(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    embedded = site.ollama.embedded

    site.chroma.stop()
    shutil.rmtree(site.folder / "chroma")
    site.chroma.start()

    site.wait_until_ready()
    site.wait_until_in_step()
    assert site.ollama.embedded == embedded
    # No word of the document: only its vector can find it.
    with site.database.begin() as connection:
        connection.execute(text("update passages set text = 'x', section = ''"))
    assert admin.search(collection, "notice period contract")["results"]


def test_a_database_restored_to_an_earlier_time_refills_the_index(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()

    with site.database.begin() as connection:
        connection.execute(text("update changes set token = gen_random_uuid()"))

    log = site.folder / "index.log"
    wait_for("the refill", lambda: "the database was restored" in log.read_text())
    site.wait_until_ready()
    assert admin.search(collection, "notice period")["degraded"] is None


def _sick(site: Site) -> list[str]:
    answer = site.readiness()
    return [name for name, state in answer.json()["parts"].items() if state != "ready"]
