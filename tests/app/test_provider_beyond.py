"""What is told to the site's provider at a sign-out, and to whoever deploys when it cannot be read."""

import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from tasks.provider import described
from tests.app.idp import Provider, enter
from tests.unit.machines import Here

pytestmark = pytest.mark.usefixtures("names")


def test_who_signs_out_at_the_provider_is_told_to_it_by_its_own_word(http: httpx.Client, there: Provider) -> None:
    there.knows(sub1={"preferred_username": "ada", "groups": ["staff"]})
    came = enter(http, there, "sub1")
    [kept] = [one for one in came.headers.get_list("set-cookie") if one.startswith("__Secure-rag-out=")]
    assert {"HttpOnly", "Path=/sign-out", "Secure", "SameSite=lax"} <= set(kept.split("; "))

    away = http.get("/sign-out/oidc", headers={"cookie": kept.partition(";")[0]})

    told = parse_qs(urlsplit(away.headers["location"]).query)
    assert jwt.decode(told["id_token_hint"][0], options={"verify_signature": False})["sub"] == "sub1"
    assert "Max-Age=0" in away.headers["set-cookie"]
    # The provider takes it, and another's word for nothing.
    trust = ssl.create_default_context(cafile=str(there.certificate))
    with httpx.Client(verify=trust, trust_env=False) as browser:
        assert browser.get(away.headers["location"]).status_code == 200
        assert browser.get(f"{there.issuer}/session/end?client_id=rag&id_token_hint=a.b.c").status_code == 400


def test_a_deploy_tells_in_one_line_when_a_machine_cannot_read_what_the_provider_says_of_itself(
    there: Provider, tmp_path: Path
) -> None:
    here = Here(tmp_path)
    authority = str(there.certificate)

    def told(issuer: str, authority: str) -> list[str]:
        here.name = f"app{len(here.said) + 1}"
        assert here.deploy(described, issuer=issuer, authority=authority) == []
        return here.said

    assert told(there.issuer, authority) == []
    assert "certificate" in told(there.issuer, "")[-1]
    assert f"({there.issuer}" not in told(f"{there.issuer}/", authority)[-1]
    there.process.stop()
    assert len(told(there.issuer, authority)) == 3
    for line in here.said:
        assert line.count("\n") == 0
        assert "; a description that this machine can read (" in line
        assert line.endswith("/.well-known/openid-configuration")
