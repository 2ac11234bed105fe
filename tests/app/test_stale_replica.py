"""A replica that takes what the primary sends and shows none of it: who is left out, who is not, and when it counts."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from app.settings import Database
from app.store.database import engine, reading
from tests.app.pair import Pair, asked, pair_of, pause
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site

BOUND = 2


@pytest.fixture
def pair(site: Site) -> Iterator[Pair]:
    """No commit waits for the replica, as where another one confirms it."""
    with pair_of(site, "", stale_seconds=BOUND) as made:
        yield made


def signed_in(pair: Pair, name: str) -> Person:
    answer = pair.http.post("/api/v1/token", data={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return Person(pair.http, answer.json()["access_token"])


def test_what_was_withdrawn_and_ended_counts_though_the_replica_does_not_show_it(pair: Pair) -> None:
    collection = pair.admin.make_collection()
    path = f"/api/v1/collections/{collection}"
    assert pair.admin.call("POST", "/api/v1/users", json={"name": "ada", "password": PASSWORD}).status_code == 201
    given = pair.admin.call("PUT", f"{path}/grants/users/ada", json={"permission": "read"})
    assert given.status_code == 200, given.text
    ada, elsewhere = signed_in(pair, "ada"), signed_in(pair, "ada")
    wait_for("the replica shows the grant", lambda: ada.call("GET", path).status_code == 200)
    wait_for("and the sessions", lambda: elsewhere.call("GET", "/api/v1/me").status_code == 200)
    pause(pair.replica)

    assert pair.admin.call("DELETE", f"{path}/grants/users/ada").status_code == 204
    assert elsewhere.call("POST", "/api/v1/sign-out").status_code == 204

    wait_for("the grant is gone", lambda: ada.call("GET", path).status_code == 404, 5 * BOUND)
    wait_for("the session is over", lambda: elsewhere.call("GET", "/api/v1/me").status_code == 401, 5 * BOUND)
    assert [ada.call("GET", path).status_code for _ in range(20)] == [404] * 20
    still = "select count(*) from pg_stat_activity where usename = 'rag_read'"
    assert asked(pair.replica, "select pg_is_wal_replay_paused()") == [True]
    wait_for("nobody reads there", lambda: asked(pair.replica, still) == [0])

    def left_out() -> list[str]:
        figures = pair.http.get("/metrics").text.splitlines()
        return [
            one.rpartition(" ")[2] for one in figures if one.startswith('rag_database_left_out{server="127.0.0.2"}')
        ]

    assert left_out() == ["1.0"]
    asked(pair.replica, "select pg_wal_replay_resume()::text")
    # Nobody has to ask for anything.
    wait_for("it is taken back", lambda: left_out() == ["0.0"], 5 * BOUND)


def test_it_serves_while_there_is_nobody_else_and_again_once_it_shows_all(
    site: Site, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    settings = Database(hosts=(pair.primary.address, pair.replica.address), port=pair.primary.port, stale_seconds=BOUND)
    pool = engine(settings, "prefer-standby", 20)

    def lands_on() -> str:
        pool.dispose()
        return reading(
            pool, lambda connection: str(connection.execute(text("select host(inet_server_addr())")).scalar())
        )

    # This process may have heard in another test that it was behind.
    wait_for("reads land on the replica", lambda: lands_on() == pair.replica.address, 5 * BOUND)
    pause(pair.replica)
    asked(pair.primary, "select pg_logical_emit_message(true, 'test', 'something to replay')::text")
    wait_for("it is left out", lambda: lands_on() == pair.primary.address, 5 * BOUND)
    assert {lands_on() for _ in range(20)} == {pair.primary.address}

    pair.primary.stop()
    assert {lands_on() for _ in range(20)} == {pair.replica.address}

    pair.primary.start()
    wait_for("it is left out again", lambda: lands_on() == pair.primary.address, 5 * BOUND)
    asked(pair.replica, "select pg_wal_replay_resume()::text")
    wait_for("it serves again", lambda: lands_on() == pair.replica.address, 5 * BOUND)
    pool.dispose()
