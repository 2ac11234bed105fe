"""The pages in a real browser: the whole journey of a colleague, with mouse, keyboard and phone."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app import formats
from tests.app.browser import PHONE, Window, ask, flaws, window
from tests.app.servers import wait_for
from tests.app.site import Site


def test_a_colleague_makes_a_collection_uploads_asks_and_follows_the_citation(
    site: Site, colleague: Window, tmp_path: Path
) -> None:
    page = colleague.page
    for name in ("contract.pdf", "contract.md"):
        (tmp_path / name).write_bytes(formats.contract(name))

    page.get_by_role("link", name="Documents", exact=True).click()
    page.get_by_label("Name").fill("journey")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="journey")).to_be_visible()
    expect(page.get_by_text("There is no document here.")).to_be_visible()

    page.get_by_label("Choose files").set_input_files([tmp_path / "contract.pdf", tmp_path / "contract.md"])
    expect(page.locator("#documents tr").get_by_text("searchable")).to_have_count(2, timeout=30_000)
    expect(page.locator("#uploads li").get_by_text("searchable")).to_have_count(2)
    assert flaws(page) == []
    colleague.picture("collection-light")
    site.wait_until_in_step()

    page.get_by_role("link", name="Ask this collection").click()
    expect(page.get_by_label("In")).to_have_value("journey")
    site.ollama.word_seconds = 0.1
    ask(page)
    expect(page.locator(".draft")).to_contain_text("notice")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    colleague.picture("ask-streaming-light", whole=False)
    answer = page.locator("article.turn").last
    expect(page.get_by_role("status").first).to_have_text("Answered, with 1 checked source.")
    expect(answer).to_contain_text("The notice period of the Halden contract is 90 days")
    expect(answer).to_contain_text("Written by standin-chat")
    assert flaws(page) == []
    colleague.picture("ask-answered-light", whole=False)

    answer.get_by_role("link", name=re.compile("^Source 1: ")).click()
    expect(page.locator("mark")).to_have_text("The notice period of the Halden contract is 90 days.")
    assert flaws(page) == []
    colleague.picture("passage-light")
    page.get_by_role("link", name="Previous passage").click()
    expect(page.locator("#passage")).to_contain_text("This agreement is between Halden")
    page.get_by_role("link", name="Documents", exact=True).click()
    expect(page.get_by_role("link", name="journey")).to_be_visible()

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/collections/journey")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_keyboard_alone_is_enough(colleague: Window, contract: str) -> None:
    page = colleague.page

    page.keyboard.press("Control+Home")
    page.goto("/collections")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    reach(page, "Ask", "link")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Question")).to_be_focused()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    page.get_by_label("In").select_option(contract)
    page.keyboard.type("How long is")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("the notice period?")
    page.keyboard.press("Enter")
    expect(page.locator("article.turn .text")).to_contain_text("90 days")
    expect(page.locator("article.turn h2")).to_have_text("How long is\nthe notice period?")
    expect(page.get_by_label("Question")).to_be_focused()
    reach(page, "Source 1", "link", "Shift+Tab")
    assert outline(page) != "none"
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_contain_text("90 days")


def test_a_phone_shows_every_page_without_scrolling_sideways(browser: Browser, site: Site, contract: str) -> None:
    for scheme in ("light", "dark"):
        with window(browser, site.base, viewport=PHONE, color_scheme=scheme) as phone:
            phone.sign_in()
            page = phone.page
            page.goto(f"/?collection={contract}")
            ask(page)
            expect(page.locator("article.turn .sources")).to_be_visible()
            assert flaws(page) == []
            phone.picture(f"phone-ask-{scheme}", whole=False)
            page.get_by_role("link", name=re.compile("^Source 1: ")).click()
            for name, address in PAGES.items():
                if address:
                    page.goto(address.format(collection=contract))
                page.wait_for_load_state("networkidle")
                assert flaws(page) == [], name
                phone.picture(f"phone-{name}-{scheme}")


PAGES = {
    "passage": "",
    "collections": "/collections",
    "collection": "/collections/{collection}",
    "people": "/people",
    "audit": "/audit",
    "account": "/account",
    "status": "/status",
    "sign-in": "/sign-in",
}


def test_the_dark_pages_can_be_read_too(browser: Browser, site: Site, contract: str) -> None:
    with window(browser, site.base, color_scheme="dark") as dark:
        dark.sign_in()
        page = dark.page
        dark.picture("ask-empty-dark", whole=False)
        page.goto(f"/?collection={contract}")
        ask(page)
        expect(page.locator("article.turn .sources")).to_be_visible()
        assert flaws(page) == []
        dark.picture("ask-answered-dark", whole=False)
        page.goto(f"/collections/{contract}")
        expect(page.locator("#documents").get_by_text("searchable")).to_be_visible()
        assert flaws(page) == []
        dark.picture("collection-dark")


def test_what_is_not_in_the_documents_is_told_so_with_the_closest_passages(
    site: Site, colleague: Window, contract: str
) -> None:
    page = colleague.page
    site.ollama.says = "Penguins guard the archive."
    page.goto(f"/?collection={contract}")

    ask(page, "Who guards the crane?")

    expect(page.locator("article.turn")).to_contain_text("Not in the documents")
    expect(page.get_by_role("heading", name="Closest passages")).to_be_visible()
    expect(page.locator("article.turn details")).to_contain_text("Penguins")
    expect(page.locator("article.turn .sources a").first).to_be_visible()
    colleague.picture("ask-not-found-light", whole=False)

    page.wait_for_function("() => location.search.includes('conversation=')")
    conversation = page.url.partition("conversation=")[2]
    asker = site.sign_in()
    wait_for("it is kept", lambda: asker.call("GET", f"/api/v1/conversations/{conversation}").status_code == 200)
    page.reload()
    expect(page.locator("article.turn")).to_contain_text("Closest passages")
    document = (page.locator("article.turn .sources a").first.get_attribute("href") or "").split("/")[2]
    assert asker.call("DELETE", f"/api/v1/documents/{document}").status_code == 204
    page.reload()
    expect(page.locator("article.turn")).to_contain_text("The closest passages are gone.")


def test_stop_ends_the_answer_and_the_next_question_is_free(site: Site, colleague: Window, contract: str) -> None:
    page = colleague.page
    page.goto(f"/?collection={contract}")
    site.ollama.word_seconds = 0.5

    ask(page)
    expect(page.locator(".draft")).to_be_visible()
    page.get_by_role("button", name="Stop").click()

    expect(page.locator("article.turn")).to_contain_text("Stopped; this draft was not checked.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    site.ollama.word_seconds = 0
    ask(page)
    expect(page.locator("article.turn .sources")).to_be_visible()


def test_without_inference_the_page_says_what_is_missing_and_asks_again(
    site: Site, colleague: Window, contract: str
) -> None:
    page = colleague.page
    page.goto(f"/?collection={contract}")
    site.ollama.stop()

    ask(page)
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("a host that answers")
    expect(problem).to_contain_text("the page Health names what is not ready")
    assert flaws(page) == []
    colleague.picture("ask-problem-light", whole=False)
    site.ollama.start()
    problem.get_by_role("button", name="Ask again").click()

    expect(page.locator("article.turn .sources")).to_be_visible()
    expect(page.locator("article.turn")).to_have_count(1)


def test_health_says_in_words_what_does_not_work(site: Site, colleague: Window) -> None:
    page = colleague.page
    page.get_by_role("link", name="Health").click()
    expect(page.get_by_role("heading", name="Questions are answered")).to_be_visible()

    site.ollama.stop()

    expect(page.get_by_role("heading", name="Not everything works now")).to_be_visible(timeout=20_000)
    expect(page.locator("#parts > div", has_text="Models")).to_contain_text("does not work")
    expect(page.locator("#parts > div", has_text="Database")).to_contain_text("works")
    assert flaws(page) == []
    colleague.picture("health-sick-light")


def test_files_can_be_dropped_and_a_bad_one_says_why(colleague: Window, collection: str) -> None:
    page = colleague.page
    page.goto(f"/collections/{collection}")

    files = page.evaluate_handle(
        """() => { const carried = new DataTransfer();
        carried.items.add(new File(["The crane is red."], "crane.txt"));
        carried.items.add(new File(["%PDF-1.7 torn"], "torn.pdf"));
        return carried; }"""
    )
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": files})

    expect(page.locator("#documents")).to_contain_text("crane.txt")
    expect(page.locator("#documents tr", has_text="crane.txt")).to_contain_text("searchable", timeout=30_000)
    expect(page.locator("#documents tr", has_text="torn.pdf")).to_contain_text("failed", timeout=30_000)
    expect(page.locator("#uploads li", has_text="torn.pdf")).to_contain_text("torn.pdf = a damaged PDF")
    colleague.picture("uploads-light")


def reach(page: Page, name: str, role: str, key: str = "Tab") -> None:
    """Go on with the key until the thing of this name has the focus."""
    wanted = page.get_by_role(role, name=re.compile(f"^{name}")).first  # type: ignore[arg-type]
    for _ in range(40):
        page.keyboard.press(key)
        if wanted.evaluate("one => one === document.activeElement"):
            return
    pytest.fail(f"not reached with {key}: {name}")


def outline(page: Page) -> str:
    style: str = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    return style
