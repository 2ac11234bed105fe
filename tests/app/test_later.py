"""Small writes that nobody waits for: done when they can be, and never in the way of a stop."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from app import metrics
from app.api.later import Later
from app.settings import load
from app.store.database import engine
from tests.app.servers import wait_for
from tests.app.site import Site
from tests.app.test_replication import require


@pytest.fixture
def primary(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setenv("RAG_CONFIG", str(site.folder / "rag.toml"))
    made = engine(load().database, "read-write", 20)
    yield made
    require(site, "")
    made.dispose()


def emit(connection: Connection) -> None:
    connection.execute(text("select pg_logical_emit_message(true, 'test', 'x')"))


def test_what_is_queued_is_written_before_a_stop(primary: Engine) -> None:
    later, done = Later(primary), []
    for number in range(20):
        later.write("test", lambda connection, number=number: (emit(connection), done.append(number)))

    later.close()

    assert done == list(range(20))


def test_writes_that_no_replica_confirms_are_lost_and_counted_at_a_stop_which_they_do_not_hold_up(
    site: Site, primary: Engine
) -> None:
    require(site, "ANY 1 (somebody)")
    later, before = Later(primary), metrics.LATER_LOST.labels("test")._value.get()
    for _ in range(20):
        later.write("test", emit)

    stopping = threading.Thread(target=later.close, daemon=True)
    stopping.start()

    # Twenty tries, each as long as a statement may take, would be minutes.
    wait_for("it has stopped", lambda: not stopping.is_alive(), 20)
    assert metrics.LATER_LOST.labels("test")._value.get() == before + 20
