"""What an administrator sees of a change of the embedding model, and a host that could not take part in it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.app.browser import window
from tests.app.reembedding import OTHER, Pair, pair
from tests.app.servers import wait_for
from tests.app.site import PASSWORD

DOCUMENTS = 5


@pytest.fixture(scope="module")
def two() -> Iterator[Pair]:
    with pair() as hosts:
        collection = hosts.admin.make_collection()
        for number in range(DOCUMENTS):
            text = f"Crane number {number} lifts {number} tons."
            hosts.admin.settled(hosts.admin.upload(collection, f"{number}.txt", text.encode()))
        hosts.deploy(embedding_model=hosts.served(), next_embedding_model=OTHER[hosts.served()])
        yield hosts


def restart(two: Pair, configuration: str) -> None:
    """The second host with this site's file."""
    (two.second.folder / "rag.toml").write_text(configuration)
    for process in two.second.processes:
        process.stop()
        process.launch()
    two.wait_until_ready()


def test_nothing_goes_over_while_a_live_host_has_a_sites_file_without_the_model(two: Pair) -> None:
    old, new = two.served(), OTHER[two.served()]
    whole = (two.second.folder / "rag.toml").read_text()
    # The deploy did not reach the second host.
    restart(two, "\n".join(line for line in whole.splitlines() if not line.startswith("next_embedding_")))

    two.step()

    wait_for("all is embedded", lambda: two.status()["done"] == DOCUMENTS, 60)
    wait_for("it is told", lambda: two.indexes() == {"app1": "complete", "app2": "without the model"}, 90)
    status = two.status()
    assert (status["state"], two.served()) == ("embedding", old)
    assert re.fullmatch(rf"site's file on app2 = without {new} \(\d+\); next_embedding_model, .+", status["problem"])

    restart(two, whole)
    two.wait_for_state("switched")
    assert two.status()["problem"] is None


def test_the_page_health_shows_an_administrator_how_far_the_change_is_and_nobody_else(
    two: Pair, browser: Browser
) -> None:
    if two.status()["state"] == "none":
        two.step()
    two.wait_for_state("switched")
    status = two.status()
    reader = two.site.add_user().get("/api/v1/me")["name"]

    with window(browser, two.site.base) as opened:
        opened.sign_in()
        opened.page.goto("/status")
        card = opened.page.locator("#change")
        expect(card).to_be_visible()
        for term, said in (
            ("State", "switched"),
            ("Questions are embedded with", status["served"]),
            ("The other model", status["other"]),
            ("Passages that have its vector", f"{DOCUMENTS} of {DOCUMENTS}"),
            ("Index of app2", "complete"),
            ("Next", "look whether answers are good; then rag reembed finish, or rag reembed back"),
        ):
            row = card.locator("#change-parts > div").filter(
                has=opened.page.locator("dt", has_text=re.compile(f"^{term}$"))
            )
            expect(row.locator("dd")).to_have_text(said)
        expect(card.locator("dt", has_text="Stands still")).to_have_count(0)
        # It goes with the change, without the page being opened anew.
        two.step(path="/finish")
        expect(card).to_be_hidden(timeout=60_000)
    with window(browser, two.site.base) as opened:
        opened.sign_in(reader, PASSWORD)
        opened.page.goto("/status")
        expect(opened.page.locator("#overall")).to_have_text("Questions are answered")
        expect(opened.page.locator("#change")).to_have_count(0)
