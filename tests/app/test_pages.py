"""The pages, as a browser sees them."""

import re

import httpx

from tests.app.site import PASSWORD, Person, Site


def test_a_colleague_signs_in_and_sees_the_question_box(site: Site, collection: str) -> None:
    turned_away = site.http.get("/")
    assert (turned_away.status_code, turned_away.headers["location"]) == (303, "/sign-in?next=/")

    wrong = site.http.post("/sign-in", data={"username": "admin", "password": "wrong"})
    assert wrong.status_code == 401
    assert "Username or password = wrong" in wrong.text

    right = site.http.post("/sign-in", data={"username": "admin", "password": PASSWORD})
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    page = site.http.get("/", headers={"cookie": cookie.partition(";")[0]})
    assert f">{collection}</option>" in page.text


def test_a_cited_passage_stands_between_its_neighbours_and_nothing_in_it_runs(
    site: Site, admin: Person, collection: str
) -> None:
    text = b"The crane is <script>alert(1)</script> red.\n\n" + b"It is far away. " * 200
    document = admin.settled(admin.upload(collection, "crane.txt", text))
    assert document["passages"] > 2

    page = admin.call("GET", f"/documents/{document['id']}/passages/1")

    assert "&lt;script&gt;alert(1)" in page.text
    assert 'rel="prev"' in page.text
    assert 'rel="next"' in page.text
    assert_locked(page)


def test_what_one_may_not_see_is_a_page_that_says_so(site: Site, admin: Person, collection: str) -> None:
    stranger = site.add_user()
    document = admin.settled(admin.upload(collection, "crane.txt", b"The crane is red."))

    for address in (
        f"/collections/{collection}",
        f"/documents/{document['id']}/passages/0",
        "/documents/1/passages/0",
        f"/documents/{document['id']}/passages/7",
    ):
        page = stranger.call("GET", address)
        assert page.status_code == 404
        assert "This is not there for you" in page.text
        assert_locked(page)


def test_no_page_carries_a_script_or_style_of_its_own(site: Site, admin: Person, collection: str) -> None:
    for address in ("/sign-in", "/", "/collections", f"/collections/{collection}", "/status"):
        page = admin.call("GET", address)
        assert page.status_code == 200
        assert_locked(page)
        assert "<style" not in page.text
        assert "style=" not in page.text
        for script in re.findall(r"<script[^>]*>", page.text):
            assert re.fullmatch(r'<script type="module" src="/static/[a-z-]+\.js">', script)


def test_a_browser_asks_for_scripts_anew_after_an_upgrade(site: Site) -> None:
    first = site.http.get("/static/ask.js")
    again = site.http.get("/static/ask.js", headers={"if-none-match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert again.status_code == 304
    assert site.http.get("/static/none.js").status_code == 404


def assert_locked(page: httpx.Response) -> None:
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
