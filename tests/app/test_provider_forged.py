"""What forgers get who come back from the site's provider, and what people get when it does not answer."""

import time
from typing import Any

import httpx
import pytest

from tests.app.idp import LABEL, PLATFORM, Provider, begin, enter, platform
from tests.app.site import PASSWORD, PROBLEM, Person, Site
from tests.app.test_provider import person, refused, signed_in

pytestmark = pytest.mark.usefixtures("names", "honest")


def test_a_code_that_another_browser_fetched_signs_nobody_in(http: httpx.Client, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    theirs, ours = begin(http), begin(http)
    answer = there.answers(theirs.address, "sub1")

    refused(ours.comes_back(http, answer), 403, "this browser began")
    refused(ours.comes_back(http, {**answer, "state": ours.sent["state"]}), 403, "spent or too old")
    refused(theirs.comes_back(http, {**answer, "state": ""}), 403, "this browser began")
    refused(theirs.comes_back(http, answer, cookie=""), 403, "this browser began")
    refused(theirs.comes_back(http, answer, cookie=f"__Host-rag-oidc={theirs.cookie}x"), 403, "this browser began")


def test_a_session_s_token_is_no_try_and_a_try_no_session(site: Site, http: httpx.Client) -> None:
    begun = begin(http)

    begun_by_session = http.get(
        "/sign-in/oidc/callback",
        params={"code": "x", "state": begun.sent["state"]},
        headers={"accept": "text/html", "cookie": f"__Host-rag-oidc={site.sign_in().token}"},
    )

    refused(begun_by_session, 403, "this browser began")
    assert Person(http, begun.cookie).call("GET", "/api/v1/me").status_code == 401


def test_a_code_is_good_once(http: httpx.Client, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    begun = begin(http)
    answer = there.answers(begun.address, "sub1")
    assert begun.comes_back(http, answer).status_code == 200

    refused(begun.comes_back(http, answer), 403, "spent or too old")


FORGED: dict[str, dict[str, Any]] = {
    "by a stranger's key": {"key": "stranger"},
    "by a stranger's key that names itself": {"key": "stranger", "header": {"kid": "another"}},
    "by no key": {"key": "none"},
    "by the client's secret": {"key": "secret"},
    "another try's nonce": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "expired": {"claims": {"exp": int(time.time()) - 60}},
    "without an end": {"claims": {"exp": None}},
    "from tomorrow": {"claims": {"iat": int(time.time()) + 86400}},
    "not before tomorrow": {"claims": {"nbf": int(time.time()) + 86400}},
    "for another client": {"claims": {"aud": "another"}},
    "for another client, given to us": {"claims": {"aud": "another", "azp": "rag"}},
    "for us and others": {"claims": {"aud": ["rag", "another"]}},
    "for us and given to another": {"claims": {"aud": ["rag", "another"], "azp": "another"}},
    "given to another": {"claims": {"azp": "another"}},
    "of another issuer": {"claims": {"iss": "https://evil.test"}},
    "of nobody": {"claims": {"sub": ""}},
    "of another person than userinfo's": {"claims": {"sub": "sub2"}},
    "with another access token": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_token_signs_nobody_in(site: Site, http: httpx.Client, there: Provider, how: str) -> None:
    there.knows(sub1=person("ada", "staff"), sub2=person("bob", "rag-admins"))
    there.forges(**FORGED[how])
    before = site.metric('rag_sign_ins_total{outcome="accepted"}')

    refused(enter(http, there, "sub1"), 403, f"Token of {LABEL} = not to be believed")

    assert site.metric('rag_sign_ins_total{outcome="accepted"}') == before
    there.forges(claims={})
    assert enter(http, there, "sub1").status_code == 200


def test_an_answer_of_another_issuer_is_not_ours(http: httpx.Client, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    begun = begin(http)
    answer = there.answers(begun.address, "sub1")
    assert answer["iss"] == there.issuer

    refused(begun.comes_back(http, {**answer, "iss": "https://evil.test"}), 403, "not to be believed")
    refused(begun.comes_back(http, {key: answer[key] for key in ("code", "state")}), 403, "not to be believed")
    assert begun.comes_back(http, answer).status_code == 200


def test_a_provider_that_says_that_it_is_another_is_none(site: Site, there: Provider) -> None:
    with platform(site, there, issuer=there.issuer.replace("localhost", "127.0.0.1")) as http:
        answer = http.get("/sign-in/oidc", headers={"accept": "text/html"})

    refused(answer, 503, "no answer that helps")


def test_after_a_change_of_its_keys_the_provider_is_believed_at_once(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    # A process of its own: one that has just refused a forged token asks for keys again only after a moment.
    with platform(site, there) as http:
        signed_in(http, there, "sub1")
        there.process.stop()
        there.process.start()
        there.knows(sub1=person("ada", "staff"))

        signed_in(http, there, "sub1")


def test_who_gives_up_at_the_provider_is_told_so(http: httpx.Client, there: Provider) -> None:
    begun = begin(http)

    refused(begun.comes_back(http, there.answers(begun.address, "")), 403, "given up there")


def test_words_of_the_provider_s_are_not_repeated(http: httpx.Client) -> None:
    begun = begin(http)
    answer = begun.comes_back(http, {"error": "Call 555 now", "state": begun.sent["state"]})

    refused(answer, 503)
    assert "555" not in answer.text


def test_a_program_is_told_by_a_problem_document(site: Site, http: httpx.Client, there: Provider) -> None:
    there.process.stop()

    down = [http.get("/sign-in/oidc", headers={"accept": "application/json"}) for _ in range(2)]
    off = site.http.get("/sign-in/oidc")

    # What was known of it half a minute ago may still send a browser there.
    for answer in down:
        assert answer.status_code in {303, 503}
    assert (off.status_code, set(off.json())) == (404, PROBLEM)


def test_without_the_provider_people_sign_in_with_passwords_and_sessions_go_on(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    with platform(site, there) as http:
        ada = signed_in(http, there, "sub1")
        begun = begin(http)
        answer = there.answers(begun.address, "sub1")
        there.process.stop()

        refused(begun.comes_back(http, answer), 503, f"{LABEL} = no answer", "name and password")
        as_program = begun.comes_back(http, answer, accept="*/*")

        assert (as_program.status_code, set(as_program.json())) == (503, PROBLEM | {"retry_after"})
        assert as_program.headers["content-type"] == "application/problem+json"
        assert ada.get("/api/v1/me")["name"] == "ada"
        given = {"username": "admin", "password": PASSWORD}
        assert http.post("/sign-in", data=given).status_code == 303
    with platform(site, there) as fresh:
        refused(fresh.get("/sign-in/oidc", headers={"accept": "text/html"}), 503, f"{LABEL} = no answer")


def test_a_provider_that_is_slow_is_waited_for_no_longer_than_the_deadline(site: Site, there: Provider) -> None:
    with platform(site, there, deadline_seconds=0.5) as http, there.process.frozen():
        answer = http.get("/sign-in/oidc", headers={"accept": "text/html"})

    refused(answer, 503, f"{LABEL} = no answer")


def test_a_wrong_secret_is_the_operator_s_to_mend(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    with platform(site, there, secret="another") as http:
        answer = enter(http, there, "sub1")

    refused(answer, 503, f"{LABEL} = no answer that helps")


def test_the_browser_is_bound_by_state_nonce_and_challenge_and_none_of_them_is_in_its_cookie(
    http: httpx.Client,
) -> None:
    first, second = begin(http), begin(http)

    assert first.sent["redirect_uri"] == f"{PLATFORM}/sign-in/oidc/callback"
    assert (first.sent["response_type"], first.sent["code_challenge_method"]) == ("code", "S256")
    for name in ("state", "nonce", "code_challenge"):
        assert len(first.sent[name]) == 43
        assert first.sent[name] != second.sent[name]
        assert first.sent[name] not in first.cookie


@pytest.mark.parametrize("next_path", ["https://evil.test/", "//evil.test/", "/\\evil.test", "javascript:alert(1)"])
def test_nobody_is_sent_to_another_site_after_the_sign_in(http: httpx.Client, there: Provider, next_path: str) -> None:
    there.knows(sub1=person("ada", "staff"))
    begun = begin(http, next_path)

    answer = begun.comes_back(http, there.answers(begun.address, "sub1"))

    assert 'id="next" href="/"' in answer.text


def test_without_a_primary_who_is_known_signs_in_at_the_provider(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"), sub2=person("bob", "staff"))
    with platform(site, there) as http:
        signed_in(http, there, "sub1")
        site.postgresql.demote()
        try:
            assert signed_in(http, there, "sub1").get("/api/v1/me")["name"] == "ada"
            refused(enter(http, there, "sub2"), 503, "no server for this request")
        finally:
            site.postgresql.promote()


def test_description_and_keys_are_asked_for_once_and_kept(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    with platform(site, there) as http:
        before = there.asked()
        for _ in range(3):
            signed_in(http, there, "sub1")
        after = there.asked()

    told = {path: after[path] - before.get(path, 0) for path in after}
    assert (told["/.well-known/openid-configuration"], told["/jwks"], told["/token"]) == (1, 1, 3)


def test_from_one_address_the_provider_is_asked_so_often_in_a_minute_and_no_more(site: Site, there: Provider) -> None:
    with platform(site, there, sign_ins_per_minute=3) as http:
        begun = begin(http)
        answer = {"code": "guessed", "state": begun.sent["state"], "iss": there.issuer}
        before = there.asked().get("/token", 0)
        statuses = [begun.comes_back(http, answer, **{"x-forwarded-for": "10.9.8.7"}).status_code for _ in range(5)]
        after = there.asked()["/token"]

    # The minute may end meanwhile.
    assert statuses.count(403) == after - before
    assert 429 in statuses
    assert set(statuses) == {403, 429}
