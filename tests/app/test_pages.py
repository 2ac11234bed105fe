"""The pages, as a browser sees them."""

import httpx

from tests.app import formats
from tests.app.site import PASSWORD, Person, Site


def test_a_colleague_signs_in_and_sees_the_question_box(site: Site, collection: str) -> None:
    turned_away = site.http.get("/")
    assert (turned_away.status_code, turned_away.headers["location"]) == (303, "/sign-in")

    wrong = site.http.post("/sign-in", data={"username": "admin", "password": "wrong"})
    assert wrong.status_code == 401
    assert "username or password = wrong" in wrong.text

    right = site.http.post("/sign-in", data={"username": "admin", "password": PASSWORD})
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    page = site.http.get("/", headers={"cookie": cookie.partition(";")[0]})
    assert f">{collection}</option>" in page.text


def test_a_cited_passage_is_shown_with_its_quote_marked_and_nothing_in_it_runs(
    site: Site, admin: Person, collection: str
) -> None:
    text = b"The crane is <script>alert(1)</script> red. " + formats.TERMINATION.encode()
    admin.settled(admin.upload(collection, "contract.txt", text))
    citation = admin.ask(collection, "How long is the notice period of the Halden contract?")["citations"][0]

    page = admin.call("GET", citation["url"], params={"quote": citation["quote"]})

    assert f"<mark>{citation['quote']}</mark>" in page.text
    assert "<script>" not in page.text
    assert_locked(page)


def test_no_page_carries_a_script_of_its_own(site: Site) -> None:
    page = site.http.get("/sign-in")

    assert_locked(page)
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for name in ("rag.js", "rag.css"):
        assert site.http.get(f"/static/{name}").status_code == 200


def assert_locked(page: httpx.Response) -> None:
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
