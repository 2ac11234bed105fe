"""A try to sign in at the provider is one browser's, one site's, and good for ten minutes."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
from starlette.responses import Response

from app.api import tokens
from app.oidc import attempt
from app.oidc.attempt import Attempt

KEY, DOMAIN = "k" * 40, "rag.example.org"


def cookie_of(begun: Attempt) -> str:
    answer = Response()
    attempt.put(answer, begun, KEY, DOMAIN)
    found = re.match(f"{attempt.NAME}=([^;]+);", answer.headers["set-cookie"])
    assert found
    return found[1]


def test_any_host_with_the_site_s_key_goes_on_with_it() -> None:
    begun = attempt.begun(KEY, "/collections/manuals?x=1#end")

    assert attempt.read(cookie_of(begun), KEY, DOMAIN) == begun


def test_what_the_provider_is_told_differs_each_time_and_is_not_in_the_cookie() -> None:
    tries = [attempt.begun(KEY, "/") for _ in range(3)]
    told = [word for one in tries for word in (one.state, one.nonce, one.verifier)]

    assert len(set(told)) == 9
    for one in tries:
        claims = jwt.decode(cookie_of(one), options={"verify_signature": False})
        assert not {one.state, one.nonce, one.verifier} & {str(value) for value in claims.values()}


def test_nobody_reads_another_site_s_a_forged_or_an_old_one() -> None:
    begun = attempt.begun(KEY, "/")
    cookie = cookie_of(begun)
    claims = jwt.decode(cookie, options={"verify_signature": False})
    past = datetime.now(UTC) - timedelta(seconds=1)

    for sent in (
        "",
        "x",
        f"{cookie}x",
        jwt.encode(claims, "another key".ljust(40, "."), "HS256"),
        jwt.encode({**claims, "exp": past}, KEY, "HS256"),
        jwt.encode({**claims, "aud": "refresh"}, KEY, "HS256"),
        jwt.encode({name: value for name, value in claims.items() if name != "exp"}, KEY, "HS256"),
        tokens.access(tokens.began(uuid4(), 0, 60), KEY, DOMAIN, 60)[0],
        tokens.refresh(tokens.began(uuid4(), 0, 60), KEY, DOMAIN)[0],
    ):
        assert attempt.read(sent, KEY, DOMAIN) is None
    assert attempt.read(cookie, KEY, "another.example.org") is None
    assert attempt.read(cookie, "z" * 40, DOMAIN) is None
    assert tokens.read_access(cookie, KEY, DOMAIN) is None
    assert tokens.read_refresh(cookie, KEY, DOMAIN) is None


@pytest.mark.parametrize(("wanted", "kept"), [("/" + "x" * 1999, "/" + "x" * 1999), ("/" + "x" * 2000, "/")])
def test_an_address_that_no_cookie_holds_is_forgotten(wanted: str, kept: str) -> None:
    assert attempt.begun(KEY, wanted).next == kept
