"""A colleague without a password in a real browser: to a real provider and back, over two app hosts and TLS."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.browser import PHONE, Window, chromium, flaws, window
from tests.app.front import front
from tests.app.idp import LABEL, PLATFORM, Provider, platform
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Person, Site
from tests.app.test_provider import person

BUTTON = f"Sign in with {LABEL}"


@pytest.fixture(scope="module")
def hosts(site: Site, there: Provider) -> Iterator[list[httpx.Client]]:
    with platform(site, there) as one, platform(site, there) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def chrome(hosts: list[httpx.Client], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that finds the platform by its name."""
    ports = [host.base_url.port or 0 for host in hosts]
    with (
        front(tmp_path_factory.mktemp("front"), "rag.test", ports) as port,
        chromium(f"--host-resolver-rules=MAP rag.test:443 127.0.0.1:{port}") as running,
    ):
        yield running


@pytest.fixture
def colleague(chrome: Browser, there: Provider, site: Site, hosts: list[httpx.Client]) -> Iterator[Window]:
    with window(chrome, PLATFORM, (there.issuer,), ignore_https_errors=True) as opened:
        yield opened
    if not there.process.running:
        there.process.start()
        wait_for("nobody tells any more that it was silent", lambda: not any(map(tells, hosts)), 60)
    with site.database.begin() as connection:
        connection.exec_driver_sql("delete from users where id in (select user_id from identities)")


def enter(page: Page, login: str) -> None:
    """The provider's own page, for who is not signed in there yet."""
    expect(page.get_by_role("heading", name="The provider")).to_be_visible()
    page.get_by_label("Person").fill(login)
    page.get_by_role("button", name="Enter").click()


def test_a_colleague_without_a_password_comes_in_makes_a_key_and_goes_out(
    site: Site, colleague: Window, there: Provider
) -> None:
    there.knows(sub1=person("ada", "writers"))
    page = colleague.page

    page.goto("/collections?x=1#end")
    expect(page.get_by_role("link", name=BUTTON)).to_be_visible()
    assert flaws(page) == []
    colleague.picture("provider-sign-in-light")
    page.get_by_role("link", name=BUTTON).click()
    enter(page, "sub1")
    # Where one wanted to go, with a cookie that no other site can send.
    expect(page).to_have_url(f"{PLATFORM}/collections?x=1#end")
    expect(page.get_by_role("link", name="ada")).to_be_visible()
    (cookie,) = page.context.cookies(PLATFORM)
    assert (cookie["name"], cookie["sameSite"], cookie["secure"]) == ("__Host-rag", "Strict", True)

    page.get_by_role("link", name="ada").click()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    expect(page.get_by_label("Current password")).to_have_count(0)
    page.get_by_label("Name").fill("my laptop")
    page.get_by_role("button", name="Make the key").click()
    shown = page.locator("#secret .secret")
    expect(shown).to_have_text(re.compile("^rag_"))
    secret = shown.inner_text()
    assert flaws(page) == []
    colleague.picture("provider-account-light")
    assert Person(site.http, secret).get("/api/v1/me")["name"] == "ada"

    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_text("You are signed out here.")).to_be_visible()
    assert flaws(page) == []
    colleague.picture("provider-signed-out-light")
    page.get_by_role("link", name=f"Sign out of {LABEL} too").click()
    page.get_by_role("button", name="Yes").click()
    expect(page).to_have_url(re.compile(f"^{PLATFORM}/sign-in"))
    page.get_by_role("link", name=BUTTON).click()
    # Signed out there too: it asks again.
    expect(page.get_by_role("heading", name="The provider")).to_be_visible()


def test_who_gives_up_or_meets_a_silent_provider_is_told_and_signs_in_with_a_password(
    colleague: Window, there: Provider, hosts: list[httpx.Client]
) -> None:
    page = colleague.page

    page.goto("/sign-in")
    page.get_by_role("link", name=BUTTON).click()
    page.get_by_role("button", name="Give up").click()
    expect(page.get_by_role("alert")).to_contain_text("given up there")
    page.get_by_role("link", name=BUTTON).click()
    expect(page.get_by_role("heading", name="The provider")).to_be_visible()
    there.process.stop()
    wait_for("what was known of it is too old", lambda: all(map(tells, hosts)), 60)
    page.goto("/sign-in")
    page.get_by_role("link", name=BUTTON).click()
    expect(page.get_by_role("alert")).to_contain_text(f"{LABEL} = no answer that helps")
    assert flaws(page) == []
    colleague.picture("provider-silent-light")
    colleague.fill_in("admin", PASSWORD)
    expect(page.get_by_role("link", name="People")).to_be_visible()


def tells(host: httpx.Client) -> bool:
    """Whether the platform itself says that nobody answers there."""
    return host.get("/sign-in/oidc").status_code == 503


def test_a_name_that_is_taken_is_linked_by_an_administrator_on_the_page(
    chrome: Browser, site: Site, colleague: Window, there: Provider
) -> None:
    name = site.add_user().get("/api/v1/me")["name"]
    there.knows(sub7=person(name, "writers"))
    page = colleague.page

    page.goto("/")
    page.get_by_role("link", name=BUTTON).click()
    enter(page, "sub7")
    expect(page.get_by_role("alert")).to_contain_text(f"to link {name} to the subject sub7 of {LABEL}")
    assert flaws(page) == []
    colleague.picture("provider-name-taken-light")
    with window(chrome, PLATFORM, ignore_https_errors=True) as admins:
        admins.sign_in()
        admins.page.goto("/people")
        admins.page.get_by_role("button", name=f"Link to {LABEL} for {name}").click()
        admins.page.get_by_label("Subject").fill("sub7")
        assert flaws(admins.page) == []
        admins.picture("provider-link-light")
        admins.page.get_by_role("button", name="Link", exact=True).click()
        expect(admins.page.get_by_role("button", name=f"Unlink from {LABEL} for {name}")).to_be_visible()
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_role("link", name=name)).to_be_visible()

        admins.page.get_by_role("button", name=f"Unlink from {LABEL} for {name}").click()
        admins.page.get_by_role("button", name="Unlink", exact=True).click()
        expect(admins.page.get_by_role("button", name=f"Link to {LABEL} for {name}")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name=BUTTON)).to_be_visible()


def test_on_a_phone_in_the_dark_the_button_is_there_too(chrome: Browser, there: Provider) -> None:
    options = {"viewport": PHONE, "color_scheme": "dark", "ignore_https_errors": True}
    with window(chrome, PLATFORM, (there.issuer,), **options) as phone:
        phone.page.goto("/sign-in")
        expect(phone.page.get_by_role("link", name=BUTTON)).to_be_visible()
        assert flaws(phone.page) == []
        phone.picture("phone-provider-sign-in-dark")
