"""What the pages keep away: documents that want to be scripts, and links that lead elsewhere."""

import re
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect

from tests.app.browser import QUESTION, Window, ask, flaws, window
from tests.app.site import PASSWORD, Person, Site

HOSTILE = "<img src=x onerror=document.title='owned'>.txt"


def test_no_document_becomes_part_of_a_page(site: Site, colleague: Window, admin: Person, collection: str) -> None:
    text = b"<script>document.title='owned'</script> The <b>crane</b> is <img src=x onerror=alert(1)> red.\n"
    document = admin.settled(admin.upload(collection, HOSTILE, text))
    site.wait_until_in_step()
    page = colleague.page

    page.goto(f"/collections/{collection}")
    expect(page.locator("#documents")).to_contain_text(HOSTILE)
    untouched(page)
    page.goto(f"/?collection={collection}")
    ask(page, "Is the crane red?")
    expect(page.locator("article.turn blockquote")).to_contain_text("<img src=x")
    expect(page.locator("article.turn .sources")).to_contain_text(HOSTILE)
    untouched(page)
    page.get_by_role("link", name=re.compile("^Source 1: ")).click()
    expect(page.locator("mark")).to_contain_text("<img src=x")
    expect(page.locator("h1")).to_have_text(HOSTILE)
    untouched(page)
    page.goto(f"/documents/{document['id']}/passages/0#quote={'%3Cimg%20src%3Dx'}")
    expect(page.locator("mark")).to_have_text("<img src=x")
    untouched(page)
    page.goto(f"/collections/{collection}")
    page.get_by_role("button", name=f"Delete {HOSTILE}").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    untouched(page)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("There is no document here.")).to_be_visible()


def test_a_link_leads_through_sign_in_back_to_its_page_and_nowhere_else(browser: Browser, site: Site) -> None:
    base = site.base
    with window(browser, base) as opened:
        opened.page.goto("/collections")
        opened.picture("sign-in-light")
        assert flaws(opened.page) == []
        opened.page.get_by_label("Name").fill("admin")
        opened.page.get_by_label("Password").fill("wrong")
        opened.page.get_by_role("button", name="Sign in").click()
        expect(opened.page.get_by_role("alert")).to_contain_text("Username or password = wrong")
        opened.page.get_by_label("Password").fill(PASSWORD)
        opened.page.get_by_role("button", name="Sign in").click()
        expect(opened.page).to_have_url(f"{base}/collections")
    for elsewhere in ("https://evil.test/", "//evil.test", "/\\evil.test", "/\t/evil.test"):
        given = {"username": "admin", "password": PASSWORD, "next": elsewhere}
        assert site.http.post("/sign-in", data=given).headers["location"] == "/"


def test_a_link_on_another_site_leads_to_the_marked_quote(
    site: Site, browser: Browser, admin: Person, contract: str
) -> None:
    citation = admin.ask(contract, QUESTION)["citations"][0]
    base = site.base
    link = f"{base}{citation['url']}#quote={quote(citation['quote'])}"
    with window(browser, base) as opened:
        opened.page.goto(link)
        opened.fill_in()
        expect(opened.page.locator("mark")).to_have_text(citation["quote"])
        other = opened.page.context.new_page()
        other.goto(f"{base.replace('127.0.0.1', 'localhost')}/sign-in")
        other.evaluate("link => { location.href = link; }", link)
        expect(other.locator("mark")).to_have_text(citation["quote"])


def test_without_its_script_a_form_puts_nothing_into_the_address(browser: Browser, site: Site) -> None:
    with window(browser, site.base, java_script_enabled=False) as opened:
        opened.sign_in()
        sent = {
            "/account": ({"Current password": PASSWORD, "New password": "a secret of twelve"}, "Change it"),
            "/people": ({"Name": "ada", "First password": "a secret of twelve"}, "Add"),
        }
        for address, (fields, button) in sent.items():
            opened.page.goto(address)
            for field, text in fields.items():
                opened.page.get_by_label(field).first.fill(text)
            opened.page.get_by_role("button", name=button, exact=True).click()
            opened.page.wait_for_load_state("networkidle")
            assert opened.page.url == f"{site.base}{address}"


def untouched(page: Page) -> None:
    assert page.title() != "owned"
    assert page.locator("img[src=x], main script, main b").count() == 0
