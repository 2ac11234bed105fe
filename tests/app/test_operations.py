"""What the operator types, and the order of the change feed."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from sqlalchemy import create_engine, text

from app.store import changes
from app.store.changes import Position
from tests.app import formats
from tests.app.servers import listens, wait_for
from tests.app.site import Person, Site


def test_a_follower_never_skips_a_transaction_that_commits_late(site: Site) -> None:
    collection, early, late = uuid4(), uuid4(), uuid4()
    with site.database.connect() as reader:
        before = Position(xid=int(reader.execute(text("select pg_current_xact_id()::text")).scalar_one()))
        reader.commit()
        with site.database.connect() as slow:
            # The slow transaction draws the lower number and commits after the quick one.
            changes.append(slow, "deleted", collection, late, 0)
            with site.database.begin() as quick:
                changes.append(quick, "deleted", collection, early, 0)
            while_open = changes.after(reader, before, 100)
            reader.commit()
            position = while_open[-1].position if while_open else before
            slow.commit()
        followed = [*while_open, *changes.after(reader, position, 100)]

    assert [change.document_id for change in followed if change.collection_id == collection] == [late, early]


def test_migrating_again_changes_nothing(site: Site) -> None:
    again = site.run("app.store.migrate")
    check = site.run("app.store.migrate", "--check")

    assert (again.returncode, again.stdout) == (0, "unchanged\n")
    assert (check.returncode, check.stdout) == (0, "unchanged\n")


def test_two_migrations_at_once_make_one_schema(site: Site) -> None:
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("create database fresh owner rag_owner"))
    other = site.folder / "fresh.toml"
    other.write_text((site.folder / "rag.toml").read_text().replace("[database]", '[database]\nname = "fresh"'))

    pending = site.run("app.store.migrate", "--check", RAG_CONFIG=str(other))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: site.run("app.store.migrate", RAG_CONFIG=str(other)), range(2)))

    assert (pending.returncode, pending.stdout) == (1, "changed\n")
    # Each step goes to whoever comes first, so that both may have taken some.
    assert [result.returncode for result in done] == [0, 0]
    assert "changed\n" in {result.stdout for result in done}
    assert site.run("app.store.migrate", RAG_CONFIG=str(other)).stdout == "unchanged\n"
    fresh = create_engine(site.database.url.set(database="fresh"))
    with fresh.connect() as connection:
        assert connection.execute(text("select name from users")).scalars().all() == ["admin"]
    fresh.dispose()


def test_the_metrics_of_every_process_can_be_scraped(site: Site) -> None:
    site.sign_in()

    text_ = site.http.get("/metrics").text

    assert 'rag_sign_ins_total{outcome="accepted"}' in text_
    assert 'route="/api/v1/token",status="200"' in text_


def test_a_stop_lets_an_answer_come_to_its_end_and_takes_no_new_request(
    site: Site, admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.ollama.answer_seconds = 3
    asked = {"collection": collection, "question": "How long is the notice period?", "stream": True}
    headers = {"authorization": f"Bearer {admin.token}"}

    with ThreadPoolExecutor(1) as pool:
        with site.http.stream("POST", "/api/v1/questions", json=asked, headers=headers) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            stopped = pool.submit(site.api.stop)
            wait_for("nobody is let in", lambda: not listens(answer.url.port))
            went_on = not stopped.done()
            rest = list(lines)
        code = stopped.result()

    assert first.startswith("event: ")
    assert went_on
    assert "event: answer" in rest
    assert any("90 days" in line for line in rest[rest.index("event: answer") :])
    assert code == 0


def test_an_unforeseen_failure_ends_in_the_same_form_and_at_once(site: Site) -> None:
    with site.database.begin() as connection:
        connection.execute(text("alter table questions rename to questions_away"))
    try:
        answer = site.sign_in().call("GET", "/api/v1/questions")
    finally:
        with site.database.begin() as connection:
            connection.execute(text("alter table questions_away rename to questions"))

    # A server is there, and it is not the caller's to try again: the operator must look.
    assert answer.status_code == 500
    assert answer.json()["detail"] == "request = ProgrammingError; a case we have met"
    assert "journalctl -u rag-api" in answer.json()["help"]
