"""A write that no replica has is no write: its acknowledgement waits, however PostgreSQL's own wait ended."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.settings import load
from app.store.database import engine, writing
from tests.app.servers import wait_for
from tests.app.site import Site


@pytest.fixture
def primary(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Writes whose statements, and so whose waits for a replica, end after a second; no replica is there."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setenv("RAG_CONFIG", str(site.folder / "rag.toml"))
    made = engine(load().database, "read-write", 1)
    require(site, "ANY 1 (somebody)")
    yield made
    require(site, "")
    made.dispose()


def require(site: Site, standbys: str) -> None:
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"alter system set synchronous_standby_names = '{standbys}'"))
        connection.execute(text("select pg_reload_conf()"))
        wait_for("new sessions have the setting", lambda: shown(site) == standbys, 10)
        # Who tells commits whether to wait hears of the setting before it makes a checkpoint.
        connection.execute(text("checkpoint"))


def shown(site: Site) -> str:
    """What a new session has."""
    site.database.dispose()
    with site.database.connect() as connection:
        return str(connection.execute(text("show synchronous_standby_names")).scalar())


def add(connection: Connection, name: str) -> None:
    connection.execute(
        text("insert into collections (id, name) values (gen_random_uuid(), :name) on conflict (name) do nothing"),
        {"name": name},
    )


def test_a_write_without_a_replica_is_not_acknowledged(primary: Engine) -> None:
    name = f"c{uuid4().hex[:8]}"

    # The second try finds the row, since the first one did commit here. On a busy computer we may hang up first.
    with pytest.raises(OperationalError, match=r"no replica has the write yet|server closed the connection"):
        writing(primary, lambda connection: add(connection, name), seconds=3)


def test_it_is_acknowledged_as_soon_as_no_replica_is_asked_for(site: Site, primary: Engine) -> None:
    name = f"c{uuid4().hex[:8]}"
    later = threading.Timer(2.5, require, (site, ""))
    later.start()

    writing(primary, lambda connection: add(connection, name), seconds=20)

    later.join()
    with site.database.connect() as connection:
        assert connection.execute(text("select count(*) from collections where name = :n"), {"n": name}).scalar() == 1
