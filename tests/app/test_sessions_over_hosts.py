"""Sessions where a replica answers: what is ended is ended everywhere, and what goes on without a primary."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.settings import Database
from app.store.database import engine
from app.store.replay import wait_for_replay
from tests.app import test_failover
from tests.app.pair import Pair, asked, pause
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site

# Of another file's fixtures pytest finds those that are here by name.
pair, write_seconds = test_failover.pair, test_failover.write_seconds


def signed_in(pair: Pair) -> dict[str, str]:
    answer = pair.http.post("/api/v1/token", json={"username": "admin", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


def test_a_sign_out_is_acknowledged_once_the_replica_that_answers_shows_it(pair: Pair) -> None:
    person = Person(pair.http, signed_in(pair)["access_token"])
    assert person.call("GET", "/api/v1/me").status_code == 200
    pause(pair.replica)

    with ThreadPoolExecutor(1) as pool:
        out = pool.submit(person.call, "POST", "/api/v1/sign-out")
        waiting = "select 1 from pg_stat_activity where wait_event = 'SyncRep'"
        wait_for("it waits for the replay", lambda: asked(pair.primary, waiting))
        assert not out.done()
        asked(pair.replica, "select pg_wal_replay_resume()::text")
        assert out.result().status_code == 204

    assert [person.call("GET", "/api/v1/me").status_code for _ in range(10)] == [401] * 10


def test_what_ends_waits_for_replicas_that_confirm_nothing_too(
    site: Site, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    settings = Database(hosts=(pair.primary.address, pair.replica.address), port=pair.primary.port, reader="rag_read")
    primary = engine(settings, "read-write")
    pause(pair.replica)
    asked(pair.primary, "select pg_logical_emit_message(true, 'test', 'something to replay')::text")

    assert wait_for_replay(primary, settings, 0.2) is False
    asked(pair.replica, "select pg_wal_replay_resume()::text")
    assert wait_for_replay(primary, settings, 10) is True
    pair.replica.stop()
    assert wait_for_replay(primary, settings, 0.2) is True
    primary.dispose()


def test_wrong_passwords_that_no_replica_confirms_hold_nobody_up_who_signs_in(pair: Pair) -> None:
    pair.replica.stop()

    def tried(password: str) -> int:
        return pair.http.post("/api/v1/token", json={"username": "admin", "password": password}).status_code

    with ThreadPoolExecutor(3) as pool:
        wrong = [pool.submit(tried, "a wrong one") for _ in range(2)]
        assert tried(PASSWORD) == 200
        assert [one.result() for one in wrong] == [401, 401]
    pair.replica.start()


@pytest.mark.parametrize("write_seconds", [2])
def test_without_a_primary_people_sign_in_and_a_refresh_token_is_not_spent_in_vain(pair: Pair) -> None:
    before = signed_in(pair)
    pair.primary.stop()

    meanwhile = signed_in(pair)
    refused = pair.http.post("/api/v1/token/refresh", json={"refresh_token": before["refresh_token"]})
    out = Person(pair.http, meanwhile["access_token"]).call("POST", "/api/v1/sign-out")
    page = pair.http.post("/sign-out", headers={"cookie": f"__Host-rag={meanwhile['access_token']}"})
    still = Person(pair.http, meanwhile["access_token"]).call("GET", "/api/v1/me")

    assert (refused.status_code, out.status_code, still.status_code) == (503, 503, 200)
    assert (page.status_code, "in this browser only" in page.text) == (503, True)
    assert "Max-Age=0" in page.headers["set-cookie"]
    pair.primary.start()
    wait_for(
        "the token is good again",
        lambda: pair.http.post("/api/v1/token/refresh", json={"refresh_token": before["refresh_token"]}).is_success,
    )
