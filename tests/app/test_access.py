"""Who gets in, and what they may see."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from app.store import passwords
from tests.app.site import PASSWORD, PROBLEM, Person, Site


def test_a_person_signs_in_with_a_form_or_json(site: Site) -> None:
    form = site.http.post("/api/v1/token", data={"username": "admin", "password": PASSWORD})
    body = site.http.post("/api/v1/token", json={"username": "admin", "password": PASSWORD})

    for answer in (form, body):
        assert answer.status_code == 200
        me = Person(site.http, answer.json()["access_token"]).get("/api/v1/me")
        assert (me["name"], me["role"]) == ("admin", "admin")


@pytest.mark.parametrize("name", ["admin", "nobody"])
def test_a_wrong_password_and_an_unknown_name_look_the_same(site: Site, name: str) -> None:
    answer = site.http.post("/api/v1/token", data={"username": name, "password": "wrong"})

    assert answer.status_code == 401
    assert answer.json()["detail"] == "username or password = wrong; a pair that fits"


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("k" * 40, {"exp": datetime.now(UTC) - timedelta(seconds=5)}),
        ("k" * 40, {"iss": "other.test"}),
        ("x" * 40, {}),
    ],
    ids=["expired", "of another site", "forged"],
)
def test_a_token_that_is_not_ours_is_refused(site: Site, key: str, changed: dict[str, Any]) -> None:
    me = site.sign_in().get("/api/v1/me")
    claims = {"sub": me["id"], "iss": "rag.test", "exp": datetime.now(UTC) + timedelta(hours=1)} | changed

    answer = Person(site.http, jwt.encode(claims, key, algorithm="HS256")).call("GET", "/api/v1/me")

    assert answer.status_code == 401
    assert set(answer.json()) == PROBLEM


def test_another_persons_collection_does_not_exist_for_me(site: Site, admin: Person, collection: str) -> None:
    document = admin.upload(collection, "secret.txt", b"The vault code is 4711.")
    stranger = site.add_user()

    refused = [
        stranger.call("GET", f"/api/v1/collections/{collection}/documents"),
        stranger.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": ("a.txt", b"a")}),
        stranger.call("GET", "/api/v1/search", params={"collection": collection, "q": "vault"}),
        stranger.call("POST", "/api/v1/questions", json={"collection": collection, "question": "vault code?"}),
        stranger.call("GET", f"/api/v1/documents/{document['id']}"),
        stranger.call("GET", f"/api/v1/documents/{document['id']}/source"),
        stranger.call("GET", f"/api/v1/documents/{document['id']}/passages/0"),
        stranger.call("DELETE", f"/api/v1/documents/{document['id']}"),
    ]

    assert [answer.status_code for answer in refused] == [404] * len(refused)
    assert stranger.get("/api/v1/collections")["items"] == []


def test_a_grant_to_read_lets_read_and_no_more(site: Site, admin: Person, collection: str) -> None:
    document = admin.settled(admin.upload(collection, "open.txt", b"The gate opens at nine."))
    reader = site.add_user()
    name = reader.get("/api/v1/me")["name"]
    grant = f"/api/v1/collections/{collection}/grants/users/{name}"

    assert admin.call("PUT", grant, json={"permission": "read"}).status_code == 200
    assert reader.search(collection, "gate")["results"]
    assert reader.call("DELETE", f"/api/v1/documents/{document['id']}").status_code == 403
    assert reader.call("PUT", grant, json={"permission": "write"}).status_code == 403

    assert admin.call("DELETE", grant).status_code == 204
    assert reader.call("GET", f"/api/v1/documents/{document['id']}").status_code == 404


def test_a_changed_password_replaces_the_old_one(site: Site) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]

    change = person.call("PUT", "/api/v1/me/password", json={"current": PASSWORD, "new": "another long password"})

    assert change.status_code == 200
    assert site.http.post("/api/v1/token", data={"username": name, "password": PASSWORD}).status_code == 401
    site.sign_in(name, "another long password")


def test_an_administrator_gives_another_password_and_shuts_a_leaver_out_at_once(site: Site, admin: Person) -> None:
    person = site.add_user()
    name = person.get("/api/v1/me")["name"]

    assert admin.call("PATCH", f"/api/v1/users/{name}", json={"password": "given by the admin"}).status_code == 200
    site.sign_in(name, "given by the admin")

    assert admin.call("PATCH", f"/api/v1/users/{name}", json={"disabled": True}).json()["disabled"] is True
    refused = site.http.post("/api/v1/token", data={"username": name, "password": "given by the admin"})
    assert (refused.status_code, person.call("GET", "/api/v1/me").status_code) == (401, 401)

    admin.call("PATCH", f"/api/v1/users/{name}", json={"disabled": False})
    # The sessions of before are over; who is let in again signs in again.
    assert person.call("GET", "/api/v1/me").status_code == 401
    site.sign_in(name, "given by the admin")
    listed = admin.call("PATCH", f"/api/v1/users/{name}", json={}).json()
    assert (listed["name"], listed["role"], listed["disabled"]) == (name, "editor", False)


def test_only_administrators_change_people_and_none_shuts_themselves_out(site: Site, admin: Person) -> None:
    person = site.add_user()

    assert person.call("PATCH", "/api/v1/users/admin", json={"disabled": True}).status_code == 403
    assert person.call("GET", "/api/v1/users").status_code == 403
    assert admin.call("PATCH", "/api/v1/users/admin", json={"disabled": True}).status_code == 409
    assert admin.call("PATCH", "/api/v1/users/nobody", json={"disabled": True}).status_code == 404


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/api/v1/token", b"{not json", 422),
        ("/api/v1/token", b'{"username": "Gr\xfc\xdfe", "password": "x"}', 422),
        ("/api/v1/token", b"[" * 20_000, 422),
        ("/api/v1/token", b'{"username": "a\\u0000b", "password": "x"}', 422),
        ("/api/v1/questions", b'{"collection": "c", "question": "What is \\u0000?"}', 422),
        ("/api/v1/questions", b'{"collection": "\\u0000", "question": "What?"}', 422),
        ("/api/v1/token", b'{"username": "' + b"x" * 100_000 + b'", "password": "x"}', 413),
    ],
    ids=["no json", "latin-1", "nested", "NUL in a name", "NUL in a question", "NUL in a collection", "long"],
)
def test_a_request_that_is_not_one_is_answered_in_one_line(
    admin: Person, path: str, content: bytes, status: int
) -> None:
    headers = {"authorization": f"Bearer {admin.token}", "content-type": "application/json"}

    answer = admin.http.post(path, content=content, headers=headers)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == PROBLEM


def test_a_passage_beyond_all_numbers_is_no_outage(admin: Person, collection: str) -> None:
    document = admin.settled(admin.upload(collection, "gate.txt", b"The gate opens at nine."))

    assert admin.call("GET", f"/api/v1/documents/{document['id']}/passages/2147483648").status_code == 422


def test_a_body_that_grows_beyond_the_limit_without_saying_so_is_cut_off(admin: Person, collection: str) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="large.txt"\r\n\r\n'
        for _ in range(200):
            yield b"x" * 10_000

    headers = {"authorization": f"Bearer {admin.token}", "content-type": "multipart/form-data; boundary=x"}
    answer = admin.http.post(f"/api/v1/collections/{collection}/documents", content=endless(), headers=headers)

    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("body = more than")


def test_the_hash_that_stands_for_nobody_costs_what_everybodys_does() -> None:
    assert passwords._NOBODY.split("$")[1:4] == passwords.hashed("any").split("$")[1:4]


@pytest.mark.parametrize(
    ("path", "page", "status"),
    [
        ("/sign-in", "cross-site", 403),
        ("/sign-in", "same-site", 403),
        ("/sign-in", "same-origin", 303),
        ("/api/v1/token", "cross-site", 403),
        ("/api/v1/token", "none", 200),
    ],
)
def test_another_sites_page_cannot_sign_a_browser_in(site: Site, path: str, page: str, status: int) -> None:
    form = {"username": "admin", "password": PASSWORD}

    answer = site.http.post(path, data=form, headers={"sec-fetch-site": page})

    assert answer.status_code == status, answer.text


def test_another_sites_page_does_nothing_in_the_name_of_who_is_signed_in(site: Site, admin: Person) -> None:
    headers = {"cookie": f"__Host-rag={admin.token}", "sec-fetch-site": "same-site"}

    assert site.http.post("/api/v1/sign-out", headers=headers).status_code == 403
    assert admin.call("GET", "/api/v1/me").status_code == 200


def test_an_administrator_gives_themselves_no_password_without_the_present_one(admin: Person) -> None:
    answer = admin.call("PATCH", "/api/v1/users/admin", json={"password": "given by a stranger"})

    assert answer.status_code == 409
    assert answer.json()["help"] == "PUT /api/v1/me/password"


def test_a_place_in_a_list_that_nests_without_end_is_none(admin: Person) -> None:
    after = base64.urlsafe_b64encode(b"[" * 1400).decode()

    assert admin.call("GET", "/api/v1/users", params={"after": after}).status_code == 422
