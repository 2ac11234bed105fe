"""Debian's Chromium on the site's pages, and what it must not meet there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, ViewportSize, expect, sync_playwright

from tests.app.servers import ROOT
from tests.app.site import PASSWORD

SCREENSHOTS = ROOT / "build" / "screenshots"
DESKTOP = ViewportSize(width=1280, height=800)
QUESTION = "How long is the notice period of the Halden contract?"
PHONE = ViewportSize(width=360, height=740)
# A browser beside a whole site on two busy cores takes longer than Playwright's five seconds at times.
expect.set_options(timeout=15_000)
# What the API answers on purpose is told to the person; the browser notes it as an error of its own.
_TOLD = "Failed to load resource: the server responded with a status of"


@dataclass
class Window:
    """A page in a browser of its own, with all that went wrong in it."""

    page: Page
    base: str
    wrong: list[str] = field(default_factory=list)
    also: tuple[str, ...] = ()
    """Where else a page may lead."""

    def sign_in(self, name: str = "admin", password: str = PASSWORD) -> None:
        self.page.goto("/sign-in")
        self.fill_in(name, password)

    def fill_in(self, name: str = "admin", password: str = PASSWORD) -> None:
        """The form that asks who one is, and on to the page behind it."""
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()

    def watch(self) -> None:
        self.page.on("console", lambda said: self._note(said.text) if said.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._must_be_ours)

    def picture(self, name: str, whole: bool = True) -> None:
        """Keep how the page looks: all of it, or what the window shows of it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)

    def _note(self, text: str) -> None:
        if not text.startswith(_TOLD):
            self.wrong.append(text)

    def _must_be_ours(self, request: Request) -> None:
        if not request.url.startswith(tuple(f"{place}/" for place in (self.base, *self.also))):
            self.wrong.append(f"elsewhere: {request.url}")


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """The browser, without a window on any screen; ``more`` are arguments of its own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium = not installed; Debian's package; make app-test")
    # Chromium's own sandbox refuses root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*arguments, *more])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, base: str, also: tuple[str, ...] = (), **options: Any) -> Iterator[Window]:
    """A fresh window; at its end nothing may have gone wrong in it."""
    given = {"viewport": DESKTOP, "locale": "en-GB", "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=base, **given)
    context.set_default_timeout(15_000)
    made = Window(context.new_page(), base, also=also)
    made.watch()
    try:
        yield made
    finally:
        context.close()
    assert made.wrong == []


def flaws(page: Page) -> list[str]:
    """What keeps people from reading or working the page as it is now."""
    # The words are there before the style is.
    page.wait_for_load_state()
    found: list[str] = page.evaluate((Path(__file__).parent / "flaws.js").read_text())
    return found


def ask(page: Page, question: str = QUESTION) -> None:
    """Type the question and send it."""
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    page.get_by_label("Question").fill(question)
    page.get_by_label("Question").press("Enter")
