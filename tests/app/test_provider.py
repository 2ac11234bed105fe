"""Signing in at the site's provider, a real one: who is let in, as whom, with which role; and what forgers get."""

import os
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.app.idp import LABEL, Provider, begin, enter, platform, token_of
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site

pytestmark = pytest.mark.usefixtures("names", "honest")


def person(name: str = "ada", *groups: str, **claims: Any) -> dict[str, Any]:
    return {"preferred_username": name, "groups": list(groups), **claims}


def signed_in(http: httpx.Client, there: Provider, login: str) -> Person:
    answer = enter(http, there, login)
    assert answer.status_code == 200, answer.text
    return Person(http, token_of(answer))


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    """One line on the form, on which a password is taken all the same; no session, and the try is over."""
    assert answer.status_code == status, answer.text
    assert 'role="alert"' in answer.text
    for word in words:
        assert word in answer.text
    assert 'name="password"' in answer.text
    assert not [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-rag=")]


def audited(site: Site, name: str) -> list[tuple[str, dict[str, Any]]]:
    """What the audit says of somebody, the latest last."""
    entries = site.sign_in().get("/api/v1/audit", params={"actor": name, "limit": 100})["items"]
    return [(entry["action"], entry["detail"]) for entry in reversed(entries)]


def test_who_is_in_a_group_is_added_with_its_role_and_has_a_session_like_any_other(
    site: Site, http: httpx.Client, there: Provider
) -> None:
    there.knows(sub1=person("Ada.Lovelace@Example.org", "writers", "canteen"))

    ada = signed_in(http, there, "sub1")

    me = ada.get("/api/v1/me")
    assert (me["name"], me["role"]) == ("ada.lovelace", "editor")
    # The same at the site's other app host, which knows of no provider.
    elsewhere = Person(site.http, ada.token)
    assert elsewhere.get("/api/v1/me")["name"] == "ada.lovelace"
    told = {"provider": there.issuer, "subject": "sub1"}
    assert audited(site, "ada.lovelace") == [("user.create", {"role": "editor", **told}), ("sign-in.accepted", told)]
    (shown,) = [one for one in site.sign_in().get("/api/v1/users")["items"] if one["name"] == "ada.lovelace"]
    assert shown["identities"] == [{"issuer": there.issuer, "subject": "sub1"}]
    assert ada.call("POST", "/api/v1/sign-out").status_code == 204
    assert elsewhere.call("GET", "/api/v1/me").status_code == 401


def test_a_try_that_one_host_began_another_one_ends_and_so_does_the_same_after_a_restart(
    site: Site, http: httpx.Client, there: Provider
) -> None:
    there.knows(sub1=person("ada", "staff"))
    begun = begin(http, "/collections/x?y=1#quote")

    with platform(site, there) as other:
        answer = begun.comes_back(other, there.answers(begun.address, "sub1"))

    assert answer.status_code == 200
    assert 'href="/collections/x?y=1#quote"' in answer.text


def test_a_name_that_is_somebody_s_is_not_taken_over_until_an_administrator_links_it(
    site: Site, http: httpx.Client, there: Provider
) -> None:
    bob = site.add_user()
    name = bob.get("/api/v1/me")["name"]
    there.knows(sub7=person(name, "writers", email=f"{name}@example.org", email_verified=True))
    admin = site.sign_in()

    refused(enter(http, there, "sub7"), 409, name, "sub7", "to link")
    wanted = {"json": {"subject": "sub7"}}
    assert Person(http, bob.token).call("PUT", f"/api/v1/users/{name}/identity", **wanted).status_code == 403
    linked = Person(http, admin.token).call("PUT", f"/api/v1/users/{name}/identity", **wanted)
    assert linked.json()["identities"] == [{"issuer": there.issuer, "subject": "sub7"}]

    assert signed_in(http, there, "sub7").get("/api/v1/me")["id"] == bob.get("/api/v1/me")["id"]
    assert ("user.link", {"provider": there.issuer, "subject": "sub7"}) in audited(site, "admin")
    # The password goes on, and who is unlinked is out.
    session = signed_in(http, there, "sub7")
    assert Person(http, admin.token).call("DELETE", f"/api/v1/users/{name}/identity").status_code == 204
    assert session.call("GET", "/api/v1/me").status_code == 401
    refused(enter(http, there, "sub7"), 409, name)
    assert site.sign_in(name).get("/api/v1/me")["name"] == name


def test_neither_a_user_nor_a_subject_is_linked_twice(site: Site, http: httpx.Client) -> None:
    names = [site.add_user().get("/api/v1/me")["name"] for _ in range(2)]
    admin = Person(http, site.sign_in().token)

    def linked(name: str, subject: str) -> int:
        return admin.call("PUT", f"/api/v1/users/{name}/identity", json={"subject": subject}).status_code

    assert [linked(names[0], "s1"), linked(names[0], "s1")] == [200, 200]
    assert [linked(names[0], "s2"), linked(names[1], "s1")] == [409, 409]
    assert admin.call("PUT", "/api/v1/users/nobody/identity", json={"subject": "s9"}).status_code == 404


def test_who_was_shut_out_stays_out(site: Site, http: httpx.Client, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    ada = signed_in(http, there, "sub1")
    site.sign_in().call("PATCH", "/api/v1/users/ada", json={"disabled": True})

    assert ada.call("GET", "/api/v1/me").status_code == 401
    # From an address of its own, since of a flood from one the audit tells no more than its beginning.
    refused(enter(http, there, "sub1", **{"x-forwarded-for": f"10.3.0.{os.getpid() % 250}"}), 403, "shut out")
    wait_for("the refusal is written", lambda: audited(site, "ada")[-1][0] == "sign-in.refused")


def test_a_role_follows_the_groups_and_less_of_it_ends_the_other_sessions(
    site: Site, http: httpx.Client, there: Provider
) -> None:
    def role_with(*groups: str) -> tuple[Person, str]:
        there.knows(sub1=person("ada", *groups))
        ada = signed_in(http, there, "sub1")
        return ada, ada.get("/api/v1/me")["role"]

    reader, first = role_with("staff")
    admin, second = role_with("staff", "rag-admins")
    assert (first, second) == ("reader", "admin")
    assert reader.get("/api/v1/me")["role"] == "admin"
    editor, third = role_with("writers", "staff")
    assert third == "editor"
    assert [one.call("GET", "/api/v1/me").status_code for one in (reader, admin)] == [401, 401]
    there.knows(sub1=person("ada", "canteen"))

    refused(enter(http, there, "sub1"), 403, "none of those that are let in")

    assert editor.call("GET", "/api/v1/me").status_code == 401
    (shown,) = [one for one in site.sign_in().get("/api/v1/users")["items"] if one["name"] == "ada"]
    assert shown["role"] == "reader"
    changes = [detail["role"] for action, detail in audited(site, "ada") if action == "user.change"]
    assert changes == ["admin", "editor", "reader"]


@pytest.mark.parametrize("more", [{}, {"email": "ada@example.org", "email_verified": True}], ids=["", "of a domain"])
def test_groups_that_the_provider_does_not_tell_take_nothing_from_anybody(
    http: httpx.Client, there: Provider, more: dict[str, Any]
) -> None:
    there.knows(sub1=person("ada", "writers"))
    ada = signed_in(http, there, "sub1")
    there.forges(claims={"_claim_names": {"groups": "src1"}})
    there.knows(sub1={"preferred_username": "ada", **more})

    refused(enter(http, there, "sub1"), 403, "more than Work tells at once")

    assert ada.get("/api/v1/me")["role"] == "editor"


def test_the_last_administrator_with_a_password_stays_one(site: Site, http: httpx.Client, there: Provider) -> None:
    admin = Person(http, site.sign_in().token)
    others = [
        one["name"]
        for one in admin.get("/api/v1/users", params={"limit": 500})["items"]
        if one["role"] == "admin" and one["name"] != "admin"
    ]
    for name in others:
        admin.call("PATCH", f"/api/v1/users/{name}", json={"role": "reader"})
    # Whoever found an open browser makes no sign-in of it.
    for sent in ({}, {"current": "a guess of somebody's"}):
        itself = admin.call("PUT", "/api/v1/users/admin/identity", json={"subject": "sub0", **sent})
        assert (itself.status_code, itself.json()["detail"]) == (403, "current = wrong; your password")
    sent = {"subject": "sub0", "current": PASSWORD}
    assert admin.call("PUT", "/api/v1/users/admin/identity", json=sent).status_code == 200
    there.knows(sub0=person("root", "staff"), sub1=person("ada", "rag-admins"))
    # An administrator without a password does not count.
    signed_in(http, there, "sub1")

    try:
        assert signed_in(http, there, "sub0").get("/api/v1/me")["role"] == "admin"
        there.knows(sub0=person("root"))
        assert signed_in(http, there, "sub0").get("/api/v1/me")["role"] == "admin"
        assert "kept" in next(
            detail for action, detail in audited(site, "admin") if action == "user.change" and "kept" in detail
        )
        second = site.add_user()
        name = second.get("/api/v1/me")["name"]
        admin.call("PATCH", f"/api/v1/users/{name}", json={"role": "admin"})
        there.knows(sub0=person("root", "staff"))
        assert signed_in(http, there, "sub0").get("/api/v1/me")["role"] == "reader"
        Person(http, second.token).call("PATCH", "/api/v1/users/admin", json={"role": "admin"})
        assert site.sign_in().call("DELETE", f"/api/v1/users/{name}").status_code == 204
    finally:
        with site.database.begin() as connection:
            connection.execute(text("update users set role = 'admin' where name = 'admin'"))
            connection.execute(text("delete from identities where subject = 'sub0'"))


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"email": "ada@example.org", "email_verified": True}, 200),
        ({"email": "ada@EXAMPLE.org", "email_verified": True}, 200),
        ({"email": "ada@example.org", "email_verified": False}, 403),
        ({"email": "ada@example.org"}, 403),
        ({"email": "ada@example.org", "email_verified": "true"}, 403),
        ({"email": "ada@example.org@evil.test", "email_verified": True}, 403),
        ({"email": "ada@sub.example.org", "email_verified": True}, 403),
        ({}, 403),
    ],
)
def test_a_verified_address_of_a_listed_domain_is_enough_to_read(
    http: httpx.Client, there: Provider, claims: dict[str, Any], status: int
) -> None:
    there.knows(sub1=person("ada", **claims))

    answer = enter(http, there, "sub1")

    assert answer.status_code == status, answer.text
    if status == 200:
        assert Person(http, token_of(answer)).get("/api/v1/me")["role"] == "reader"


def test_nobody_is_added_where_the_site_does_not_want_it(site: Site, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    with platform(site, there, create=False) as http:
        refused(enter(http, there, "sub1"), 403, "linked to the subject sub1")


def test_where_no_group_gives_a_role_administrators_do(site: Site, there: Provider) -> None:
    mapping = {"admin_groups": [], "editor_groups": [], "reader_groups": []}
    there.knows(sub1=person("ada", "rag-admins", email="ada@example.org", email_verified=True))
    with platform(site, there, **mapping) as http:
        assert signed_in(http, there, "sub1").get("/api/v1/me")["role"] == "reader"
        site.sign_in().call("PATCH", "/api/v1/users/ada", json={"role": "editor"})
        there.knows(sub1=person("ada"))
        assert signed_in(http, there, "sub1").get("/api/v1/me")["role"] == "editor"


def test_who_has_no_password_guesses_none_and_is_not_told_from_who_has(
    site: Site, http: httpx.Client, there: Provider
) -> None:
    there.knows(sub1=person("ada", "staff"))
    ada = signed_in(http, there, "sub1")

    for guess in ("!", "", PASSWORD):
        answer = http.post("/api/v1/token", data={"username": "ada", "password": guess})
        assert answer.status_code == 401, answer.text
    page = http.get("/account", headers={"cookie": f"__Host-rag={ada.token}"})
    assert "Current password" not in page.text
    # No guess of a password keeps anybody from the provider's way.
    for _ in range(6):
        http.post("/api/v1/token", data={"username": "ada", "password": "wrong"})
    signed_in(http, there, "sub1")


def test_signing_out_leads_on_to_the_provider_s_own(site: Site, http: httpx.Client, there: Provider) -> None:
    there.knows(sub1=person("ada", "staff"))
    ada = signed_in(http, there, "sub1")

    out = http.post("/sign-out", headers={"cookie": f"__Host-rag={ada.token}"})
    form = http.get(out.headers["location"])
    away = http.get("/sign-out/oidc")
    with_password = http.post("/sign-out", headers={"cookie": f"__Host-rag={site.sign_in().token}"})

    assert f"Sign out of {LABEL} too" in form.text
    assert away.status_code == 303
    assert away.headers["location"].startswith(f"{there.issuer}/session/end?client_id=rag&post_logout_redirect_uri=")
    assert with_password.headers["location"] == "/sign-in"
    assert ada.call("GET", "/api/v1/me").status_code == 401
