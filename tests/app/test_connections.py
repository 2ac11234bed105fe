"""Connections to one server that turn bad: what a request notices, and what is tried again."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app.settings import Database
from app.store.database import engine, reading, writing
from tests.app.servers import wait_for
from tests.app.site import Site


@pytest.fixture
def pool(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Connections of a part that the test runs by itself."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    made = engine(Database(hosts=("127.0.0.1",), port=site.postgresql.port), "read-write", 20)
    yield made
    made.dispose()


def opened(pool: Engine, number: int, statement: str) -> None:
    """So many connections wait in the pool, and in each the statement was executed."""
    with ExitStack() as stack:
        for connection in [stack.enter_context(pool.connect()) for _ in range(number)]:
            connection.execute(text(statement))
            connection.commit()


def test_connections_that_take_no_writes_any_more_are_thrown_away_together(pool: Engine) -> None:
    # Such a session looks like one whose server lost its place as the primary.
    opened(pool, 3, "set default_transaction_read_only = on")
    tries = []

    def work(connection: Connection) -> None:
        tries.append(connection)
        connection.execute(text("delete from jobs where false"))

    writing(pool, work, 5)

    assert len(tries) == 2


def test_several_dead_connections_cost_a_request_no_more_than_one(site: Site, pool: Engine) -> None:
    opened(pool, 4, "select 1")
    with site.postgresql.frozen("postgres: rag rag 127"):
        began = time.monotonic()
        assert reading(pool, lambda connection: connection.execute(text("select 1")).scalar_one()) == 1
        took = time.monotonic() - began

    # A ping that nobody answers takes two seconds.
    assert 1.5 < took < 3.5


def test_a_session_that_freezes_in_the_middle_of_a_read_costs_seconds(site: Site, pool: Engine) -> None:
    opened(pool, 1, "select 1")
    tries = []

    def work(connection: Connection) -> int:
        tries.append(time.monotonic())
        if len(tries) == 1:
            frozen.enter_context(site.postgresql.frozen("postgres: rag rag 127"))
        return int(connection.execute(text("select 1")).scalar_one())

    with ExitStack() as frozen:
        assert reading(pool, work) == 1

    assert tries[1] - tries[0] < 8


@pytest.mark.parametrize("statement", ["selct 1", "select 1/0", "insert into users (name) values ('x')"])
def test_what_no_other_try_can_mend_is_not_repeated(pool: Engine, statement: str) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text(statement))

    with pytest.raises(DBAPIError):
        writing(pool, work)

    assert tries == [1]


def test_a_read_takes_no_transaction_and_a_write_is_one(pool: Engine) -> None:
    def work(connection: Connection) -> bool:
        # It stands still for as long as a transaction lasts.
        moments = {connection.execute(text("select now()")).scalar_one() for _ in range(3)}
        return len(moments) == 1

    one = [writing(pool, work), reading(pool, work), writing(pool, work)]

    assert one == [True, False, True]


def test_a_statement_that_nobody_waits_for_any_more_ends(pool: Engine) -> None:
    tries = []
    running = text("select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'")

    def work(connection: Connection) -> int:
        tries.append(1)
        return int(connection.execute(text("select pg_sleep(600)") if len(tries) == 1 else running).scalar_one())

    reading(pool, work)

    assert len(tries) == 2
    # Well before the statement's own limit of twenty seconds would end it.
    wait_for("the server ends what it does for nobody", lambda: reading(pool, work) == 0, 8)
