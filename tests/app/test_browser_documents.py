"""Documents on their way, in a real browser: cancelled, tried again, shown by state, gone with their collection."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.app import office
from tests.app.browser import Window, ask, flaws
from tests.app.site import Person, Site


def row(page: Page, name: str) -> Locator:
    """The document's line in the table."""
    return page.locator("#documents tr", has_text=name)


def test_a_document_is_cancelled_and_tried_again(site: Site, colleague: Window, admin: Person, collection: str) -> None:
    site.worker.stop()
    admin.upload(collection, "crane.txt", b"The crane is red.")
    page = colleague.page
    page.goto(f"/collections/{collection}")

    expect(row(page, "crane.txt")).to_contain_text("waiting")
    page.get_by_role("button", name="Cancel crane.txt").click()
    expect(row(page, "crane.txt")).to_contain_text("cancelled")
    assert flaws(page) == []
    page.get_by_role("button", name="Try again: crane.txt").click()
    expect(row(page, "crane.txt")).to_contain_text("waiting")
    site.worker.start()

    expect(row(page, "crane.txt")).to_contain_text("searchable", timeout=30_000)
    host = next(iter(admin.get(f"/api/v1/collections/{collection}/documents")["items"][0]["searchable_on"]))
    expect(row(page, "crane.txt")).to_contain_text(f"on {host}", timeout=30_000)
    expect(row(page, "crane.txt")).not_to_contain_text("not yet on", timeout=30_000)


def test_a_long_document_tells_how_far_it_is(site: Site, colleague: Window, admin: Person, collection: str) -> None:
    site.ollama.embed_seconds = 1.5
    text = "\n\n".join(f"Crane {number} is red. " * 60 for number in range(20))
    admin.upload(collection, "cranes.txt", text.encode())
    page = colleague.page

    page.goto(f"/collections/{collection}")

    expect(row(page, "cranes.txt")).to_contain_text(re.compile(r"being indexed \d+ of \d+ passages"), timeout=30_000)
    colleague.picture("progress-light")
    site.ollama.embed_seconds = 0
    expect(row(page, "cranes.txt")).to_contain_text("searchable", timeout=60_000)


def test_documents_are_shown_by_state_and_page_after_page(colleague: Window, admin: Person, collection: str) -> None:
    good = [admin.upload(collection, f"{number:03}.txt", f"Crane {number}.".encode()) for number in range(55)]
    admin.settled(admin.upload(collection, "torn.pdf", b"%PDF-1.7 torn"))
    for document in good:
        admin.settled(document)
    page = colleague.page

    page.goto(f"/collections/{collection}")
    expect(page.locator("#documents tr")).to_have_count(50)
    page.get_by_role("button", name="More documents").click()
    expect(page.locator("#documents tr")).to_have_count(56)
    expect(page.get_by_role("button", name="More documents")).to_be_hidden()
    page.get_by_label("Show").select_option("failed")

    expect(page.locator("#documents tr")).to_have_count(1)
    expect(row(page, "torn.pdf")).to_contain_text("a damaged PDF")
    page.get_by_label("Show").select_option("cancelled")
    expect(page.get_by_text("There is no document here.")).to_be_visible()


def test_a_collection_goes_only_when_its_name_is_typed(colleague: Window, contract: str) -> None:
    page = colleague.page
    page.goto(f"/collections/{contract}")

    page.get_by_role("button", name="Delete this collection").click()
    page.get_by_label("Type the collection's name").fill("another")
    page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Type the collection's name").fill(contract)
    page.get_by_role("button", name="Delete", exact=True).last.click()

    expect(page).to_have_url(f"{colleague.base}/collections")
    expect(page.get_by_role("link", name=contract)).to_have_count(0)


def test_a_citation_tells_the_slide_or_the_rows_where_it_stands(
    site: Site, colleague: Window, admin: Person, collection: str
) -> None:
    talk = office.slides([("Crane", "It lifts nine tonnes.", ""), ("Hook", "The hook is oiled on Friday.", "")])
    prices = office.workbook({"Prices": [["item", "price"], ["lantern", "12 crowns"]]})
    for name, content in (("talk.pptx", talk), ("prices.xlsx", prices)):
        admin.settled(admin.upload(collection, name, content))
    site.wait_until_in_step()
    page = colleague.page

    for question, place in (
        ("When is the hook oiled?", "slide 2"),
        ("What is the price of the lantern?", "sheet Prices · rows 1 to 2"),
    ):
        page.goto(f"/?collection={collection}")
        ask(page, question)
        expect(page.locator("article.turn .sources")).to_contain_text(place)
        page.get_by_role("link", name=re.compile("^Source 1: ")).click()
        expect(page.locator("article.reading header")).to_contain_text(place)
        expect(page.locator("mark")).to_be_visible()
