"""Conversations in a real browser: they go on, come back, are judged and deleted."""

import threading

from playwright.sync_api import Page, expect

from tests.app.browser import QUESTION, Window, ask, flaws
from tests.app.site import Person, Site

# The wait is as short as the test's settings make it.
KEEP_WHAT_IS_SAID = """() => {
  window.said = [];
  const status = document.getElementById("status");
  new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
}"""
ANOTHER = "What does the agreement between Halden and the harbour office cover?"


def begin(window: Window, collection: str) -> Page:
    """A conversation with one answer, in the list."""
    page = window.page
    page.goto(f"/?collection={collection}")
    ask(page)
    expect(page.locator("#conversations a[aria-current=page]")).to_contain_text(QUESTION)
    return page


def test_a_conversation_goes_on_comes_back_and_is_deleted(colleague: Window, contract: str) -> None:
    page = begin(colleague, contract)
    ask(page, ANOTHER)
    expect(page.locator("article.turn .sources")).to_have_count(2)
    assert flaws(page) == []
    colleague.picture("talk-light", whole=False)

    page.get_by_role("link", name="New conversation").click()
    expect(page.locator("article.turn")).to_have_count(0)
    page.get_by_role("link", name=QUESTION).first.click()

    expect(page.locator("article.turn h2")).to_have_text([QUESTION, ANOTHER])
    expect(page.locator("article.turn .sources")).to_have_count(2)
    expect(page.get_by_label("In")).to_have_value(contract)
    here = page.url
    page.get_by_role("button", name=f"Delete conversation: {QUESTION}").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.goto(here)
    expect(page.locator("#news")).to_contain_text("one that exists")


def test_an_answer_is_judged_and_the_verdict_is_there_later(colleague: Window, admin: Person, contract: str) -> None:
    page = begin(colleague, contract)

    page.get_by_role("button", name="Not helpful").click()
    page.get_by_label("What is wrong or missing?").fill("That was the <b>old</b> contract.")
    page.get_by_role("button", name="Send the comment").click()
    expect(page.locator("#news")).to_have_text("Your comment is kept.")
    page.reload()

    expect(page.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".feedback")).to_contain_text("That was the <b>old</b> contract.")
    page.get_by_role("button", name="Helpful", exact=True).click()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_have_attribute("aria-pressed", "true")
    latest = admin.get("/api/v1/questions")["items"][0]
    assert latest["feedback"]["verdict"] == "up"


def test_another_collection_begins_another_conversation(colleague: Window, admin: Person, contract: str) -> None:
    other = admin.make_collection()
    page = begin(colleague, contract)

    page.get_by_label("In").select_option(other)

    expect(page.locator("article.turn")).to_have_count(0)
    ask(page, ANOTHER)
    expect(page.locator("article.turn")).to_contain_text("Not in the documents")


def test_who_waits_for_a_place_is_told_so(site: Site, colleague: Window, admin: Person, contract: str) -> None:
    page = colleague.page
    page.goto(f"/?collection={contract}")
    site.ollama.answer_seconds = 4
    others = [threading.Thread(target=admin.ask, args=(contract, QUESTION)) for _ in range(2)]
    for other in others:
        other.start()
    page.wait_for_timeout(1000)

    page.evaluate(KEEP_WHAT_IS_SAID)
    ask(page)

    expect(page.get_by_role("alert")).to_contain_text("no free place")
    assert "Waiting for a free place …" in page.evaluate("said")
    for other in others:
        other.join()
    site.ollama.answer_seconds = 0
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("article.turn .sources")).to_be_visible()
