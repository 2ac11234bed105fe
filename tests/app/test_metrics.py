"""What Prometheus reads from the three programs."""

import re
import signal
import socket
import tomllib

import httpx
from sqlalchemy import text

from app.store import jobs
from tests.app import formats
from tests.app.servers import wait_for
from tests.app.site import Person, Site


def value(shown: str, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", shown, re.MULTILINE)
    return float(found[1]) if found else None


def shown_by(site: Site, program: str) -> str:
    port = tomllib.loads((site.folder / "rag.toml").read_text())["listen"][program]
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


def test_a_question_leaves_its_times_and_tokens(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    counted = {
        f"rag_{name}_count"
        for name in (
            "first_token_seconds",
            "answer_seconds",
            "search_seconds",
            "search_vector_seconds",
            "search_lexical_seconds",
            "model_first_token_seconds",
            "model_seconds",
        )
    } | {'rag_model_tokens_total{direction="in"}', 'rag_model_tokens_total{direction="out"}'}
    before = {sample: value(shown_by(site, "api"), sample) or 0 for sample in counted}

    admin.ask(collection, "How long is the notice period?")

    after = {sample: value(shown_by(site, "api"), sample) or 0 for sample in counted}
    assert {sample for sample in counted if after[sample] <= before[sample]} == set()
    assert value(shown_by(site, "api"), 'rag_inference_in_flight{kind="answer"}') == 0
    assert value(shown_by(site, "api"), 'rag_inference_waiting{kind="answer"}') == 0


def test_people_are_counted_once_however_often_they_come(site: Site) -> None:
    people = [site.add_user() for _ in range(5)]

    def counted() -> float:
        for person in people:
            person.get("/api/v1/me")
        return value(shown_by(site, "api"), "rag_active_users") or 0

    once = counted()
    # Those of other tests fall out of the last five minutes meanwhile.
    assert len(people) <= counted() <= once


def test_a_made_up_method_is_no_figure_of_its_own(site: Site) -> None:
    site.http.request("ZZZAP", "/api/v1/me")

    assert "ZZZAP" not in shown_by(site, "api")


def test_each_program_shows_its_own_figures_and_the_worker_the_queue(
    site: Site, admin: Person, collection: str
) -> None:
    site.ollama.embed_seconds = 30
    document = admin.upload(collection, "slow.txt", b"This one takes its time.")

    wait_for("the job is held", lambda: value(shown_by(site, "worker_metrics"), 'rag_jobs{state="held"}') == 1)
    worker, index, api = (shown_by(site, name) for name in ("worker_metrics", "index_metrics", "api"))

    site.worker.stop(signal.SIGKILL)
    admin.call("DELETE", f"/api/v1/documents/{document['id']}")
    assert value(index, "rag_index_lag_changes") is not None
    assert all("process_resident_memory_bytes" in shown for shown in (worker, index))
    assert "rag_jobs" not in api + index
    assert "rag_index" not in api + worker
    assert "rag_requests" not in worker + index


def test_an_app_host_that_tells_nothing_has_a_figure_of_its_silence(site: Site) -> None:
    def silent(host: str) -> float | None:
        return value(shown_by(site, "worker_metrics"), f'rag_app_host_silent_seconds{{host="{host}"}}')

    site.worker.wait()
    with site.database.begin() as connection:
        for host, age in (("app7", "20 minutes"), ("app8", "8 days")):
            statement = "insert into index_positions values (:host, '0', 0, null, now() - cast(:age as interval))"
            connection.execute(text(statement), {"host": host, "age": age})
    wait_for("it is shown", lambda: (silent("app7") or 0) >= 1200)
    assert (silent(socket.gethostname()) or 0) < 600
    assert silent("app8") is None
    with site.database.begin() as connection:
        connection.execute(text("delete from index_positions where host in ('app7', 'app8')"))
    wait_for("it is gone with the host", lambda: silent("app7") is None)


def test_the_queue_is_counted_by_state_and_its_oldest_job_has_an_age(
    site: Site, admin: Person, collection: str
) -> None:
    site.worker.stop()
    documents = [admin.upload(collection, f"{number}.txt", f"Number {number}.".encode()) for number in range(4)]
    states = (
        "run_after = now() - interval '1 hour'",
        "run_after = now() + interval '1 hour'",
        "owner = 'somebody', lease_until = now() + interval '1 hour'",
        "owner = 'nobody', lease_until = now() - interval '1 hour'",
    )
    with site.database.begin() as connection:
        for document, state in zip(documents, states, strict=True):
            connection.execute(text(f"update jobs set {state} where document_id = :id"), document)

        queue = jobs.queue(connection)

    for document in documents:
        admin.call("DELETE", f"/api/v1/documents/{document['id']}")
    assert (queue.due, queue.paused, queue.held, queue.lapsed) == (1, 1, 1, 1)
    assert 3600 <= queue.oldest_seconds < 3700
