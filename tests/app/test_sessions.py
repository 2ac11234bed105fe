"""Sessions that really end: tokens, their renewal, and what makes them void."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from sqlalchemy import text

from app.api import cookie
from app.store import sessions
from tests.app.conftest import SECRETS
from tests.app.site import PASSWORD, Person, Site

KEY = SECRETS["token-key"]


def name_of(person: Person) -> str:
    name: str = person.get("/api/v1/me")["name"]
    return name


def tokens_of(site: Site, name: str = "admin") -> dict[str, Any]:
    answer = site.http.post("/api/v1/token", json={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def refreshed(site: Site, token: str) -> httpx.Response:
    return site.http.post("/api/v1/token/refresh", json={"refresh_token": token})


def status(site: Site, token: str) -> int:
    return Person(site.http, token).call("GET", "/api/v1/me").status_code


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_aud": False})
    return claims


def test_who_signs_out_is_out_with_every_token_of_that_session_and_of_no_other(site: Site) -> None:
    name = name_of(site.add_user())
    one, other = tokens_of(site, name), tokens_of(site, name)
    again = refreshed(site, one["refresh_token"]).json()

    assert Person(site.http, one["access_token"]).call("POST", "/api/v1/sign-out").status_code == 204

    assert [status(site, token["access_token"]) for token in (one, again, other)] == [401, 401, 200]
    assert refreshed(site, again["refresh_token"]).status_code == 401


def test_a_refresh_token_gives_others_until_the_session_ends(site: Site) -> None:
    first = tokens_of(site)
    second = refreshed(site, first["refresh_token"]).json()
    third = refreshed(site, second["refresh_token"]).json()

    assert status(site, third["access_token"]) == 200
    ends = {claims_of(one["refresh_token"])["exp"] for one in (first, second, third)}
    assert len(ends) == 1
    assert third["refresh_expires_in"] <= 12 * 3600
    assert len({claims_of(one["access_token"])["sid"] for one in (first, second, third)}) == 1


def test_a_refresh_token_sent_twice_ends_the_session_since_one_of_two_has_stolen_it(site: Site, admin: Person) -> None:
    name = name_of(site.add_user())
    first = tokens_of(site, name)
    second = refreshed(site, first["refresh_token"]).json()

    assert refreshed(site, first["refresh_token"]).status_code == 401

    assert status(site, second["access_token"]) == 401
    assert refreshed(site, second["refresh_token"]).status_code == 401
    (stolen,) = admin.get("/api/v1/audit", params={"action": "session.stolen", "actor": name})["items"]
    assert stolen["object"] == f"sessions/{claims_of(first['access_token'])['sid']}"


def changed_password(person: Person, admin: Person, name: str) -> None:
    body = {"current": PASSWORD, "new": "another long password"}
    assert person.call("PUT", "/api/v1/me/password", json=body).status_code == 200


def given_password(person: Person, admin: Person, name: str) -> None:
    body = {"password": "another long password"}
    assert admin.call("PATCH", f"/api/v1/users/{name}", json=body).status_code == 200


def ended(person: Person, admin: Person, name: str) -> None:
    assert person.call("DELETE", "/api/v1/me/sessions").status_code == 204


def disabled_and_let_in_again(person: Person, admin: Person, name: str) -> None:
    for disabled in (True, False):
        admin.call("PATCH", f"/api/v1/users/{name}", json={"disabled": disabled})


@pytest.mark.parametrize("end", [changed_password, given_password, ended, disabled_and_let_in_again])
def test_all_sessions_end_with(site: Site, admin: Person, end: Callable[[Person, Person, str], None]) -> None:
    name = name_of(site.add_user())
    tokens = [tokens_of(site, name) for _ in range(2)]

    end(Person(site.http, tokens[0]["access_token"]), admin, name)

    assert [status(site, one["access_token"]) for one in tokens] == [401, 401]
    assert [refreshed(site, one["refresh_token"]).status_code for one in tokens] == [401, 401]


def test_who_changes_their_password_goes_on_with_the_tokens_of_the_answer(site: Site) -> None:
    person = site.add_user()

    answer = person.call("PUT", "/api/v1/me/password", json={"current": PASSWORD, "new": "another long password"})

    assert status(site, answer.json()["access_token"]) == 200


def test_who_changes_it_in_a_browser_stays_signed_in_there(site: Site) -> None:
    token = browser_signed_in(site, name_of(site.add_user()))
    body = {"current": PASSWORD, "new": "another long password"}

    answer = site.http.put("/api/v1/me/password", json=body, headers={"cookie": f"{cookie.NAME}={token}"})

    renewed = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]
    assert [with_cookie(site, one).status_code for one in (token, renewed)] == [401, 200]


def test_a_token_of_the_program_before_sessions_is_good_until_it_expires_or_all_are_ended(site: Site) -> None:
    person = site.add_user()
    me = person.get("/api/v1/me")
    claims = {"sub": me["id"], "iss": "rag.test", "exp": datetime.now(UTC) + timedelta(minutes=5)}
    old = jwt.encode(claims, KEY, algorithm="HS256")
    assert status(site, old) == 200

    assert Person(site.http, old).call("POST", "/api/v1/sign-out").status_code == 204

    assert (status(site, old), status(site, person.token)) == (401, 401)


def test_a_refresh_token_is_no_access_token_nor_the_other_way_round(site: Site) -> None:
    tokens = tokens_of(site)

    assert status(site, tokens["refresh_token"]) == 401
    assert refreshed(site, tokens["access_token"]).status_code == 401
    # Nor does the program before sessions take one, to which it would be a token for half a day.
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(tokens["refresh_token"], KEY, algorithms=["HS256"], issuer="rag.test")


@pytest.mark.parametrize("change", [{"iss": "other.test"}, {"aud": "else"}, {"sid": "x"}, {"gen": None}, {"jti": 7}])
def test_a_refresh_token_that_is_not_ours_is_refused(site: Site, change: dict[str, Any]) -> None:
    claims = claims_of(tokens_of(site)["refresh_token"]) | change

    assert refreshed(site, jwt.encode(claims, KEY, algorithm="HS256")).status_code == 401


def browser_signed_in(site: Site, name: str = "admin") -> str:
    answer = site.http.post("/sign-in", data={"username": name, "password": PASSWORD})
    sent: str = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]
    return sent


def with_cookie(site: Site, token: str, method: str = "GET", path: str = "/api/v1/me") -> httpx.Response:
    return site.http.request(method, path, headers={"cookie": f"{cookie.NAME}={token}"})


def test_the_page_signs_out_everywhere_not_in_this_browser_alone(site: Site) -> None:
    token = browser_signed_in(site)
    assert with_cookie(site, token).status_code == 200

    answer = with_cookie(site, token, "POST", "/sign-out")

    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert with_cookie(site, token).status_code == 401


def test_the_browsers_token_is_renewed_while_it_is_used_and_never_beyond_the_session(site: Site) -> None:
    claims = claims_of(browser_signed_in(site))
    half_gone = jwt.encode(claims | {"exp": datetime.now(UTC) + timedelta(minutes=20)}, KEY, algorithm="HS256")
    nearly_over = claims | {
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "end": int((datetime.now(UTC) + timedelta(minutes=6)).timestamp()),
    }

    renewed = with_cookie(site, half_gone)
    last = with_cookie(site, jwt.encode(nearly_over, KEY, algorithm="HS256"))
    fresh = with_cookie(site, browser_signed_in(site))

    sent = renewed.headers["set-cookie"]
    assert all(part in sent for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    token = sent.partition(";")[0].partition("=")[2]
    assert claims_of(token)["sid"] == claims["sid"]
    assert claims_of(token)["exp"] > claims_of(half_gone)["exp"]
    assert ("set-cookie" in fresh.headers, last.status_code) == (False, 200)
    if "set-cookie" in last.headers:
        token = last.headers["set-cookie"].partition(";")[0].partition("=")[2]
        assert claims_of(token)["exp"] <= nearly_over["end"]


def test_what_is_about_expired_tokens_is_forgotten_and_nothing_else(site: Site) -> None:
    old, young = uuid4(), uuid4()
    with site.database.begin() as connection:
        for session, age in ((old, "2 hours"), (young, "1 second")):
            for table, column, more in (
                ("ended_sessions", "session_id", ""),
                ("spent_refresh_tokens", "number", ", spent_by"),
            ):
                values = ", gen_random_uuid()" if more else ""
                connection.execute(
                    text(f"insert into {table} ({column}, until{more}) values (:id, now() - interval '{age}'{values})"),
                    {"id": session},
                )
        connection.execute(text("set local role rag"))
        sessions.forget(connection, 1000)
        for table, column in (("ended_sessions", "session_id"), ("spent_refresh_tokens", "number")):
            left = set(connection.execute(text(f"select {column} from {table}")).scalars())
            assert (old in left, young in left) == (False, True)
