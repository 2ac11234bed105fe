"""The page Health in Chromium: how far each host's index is."""

import socket

from playwright.sync_api import expect

from tests.app.browser import Window, flaws
from tests.app.site import Person, Site


def test_the_page_health_shows_how_far_each_hosts_index_is(
    site: Site, admin: Person, collection: str, colleague: Window
) -> None:
    page = colleague.page
    page.goto("/status")
    mine = page.locator("#lags div", has_text=socket.gethostname())
    expect(mine).to_contain_text("in step", timeout=30_000)
    site.index.stop()
    admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))

    expect(mine).to_contain_text("behind 1 change, the first of ", timeout=30_000)
    assert flaws(page) == []
    colleague.picture("health-behind-light")

    site.index.launch()
    expect(mine).to_contain_text("in step", timeout=30_000)
