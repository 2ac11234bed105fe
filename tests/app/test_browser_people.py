"""Administration and one's own account in a real browser."""

from uuid import uuid4

from playwright.sync_api import Browser, Locator, Page, expect

from tests.app.browser import Window, flaws, window
from tests.app.site import PASSWORD, Person, Site

ANOTHER = "a longer secret than before"


def add_person(page: Page, role: str) -> str:
    """A new person, made with the form."""
    name = f"p{uuid4().hex[:8]}"
    page.goto("/people")
    form = page.locator("#new-user")
    form.get_by_label("Name").fill(name)
    form.get_by_label("First password").fill(PASSWORD)
    form.get_by_label("Role").select_option(role)
    form.get_by_role("button", name="Add").click()
    expect(person(page, name)).to_be_visible()
    return name


def person(page: Page, name: str) -> Locator:
    """Their row in the table."""
    return page.locator("#users tr", has_text=name)


def test_what_is_given_to_a_group_its_member_has_and_no_more(
    site: Site, browser: Browser, colleague: Window, contract: str
) -> None:
    page = colleague.page
    ada, group = add_person(page, "reader"), f"g{uuid4().hex[:8]}"

    page.locator("#new-group").get_by_label("Name").fill(group)
    page.get_by_role("button", name="Add the group").click()
    page.get_by_role("button", name=f"Add a member to {group}").click()
    page.get_by_label("Name of the person").fill(ada)
    page.get_by_role("button", name="Add", exact=True).last.click()
    expect(page.locator("#groups tr", has_text=group)).to_contain_text(ada)
    expect(person(page, ada)).to_contain_text(group)
    assert flaws(page) == []
    colleague.picture("people-light")
    page.goto(f"/collections/{contract}")
    page.get_by_label("Give", exact=True).select_option("group")
    page.get_by_label("named").fill("nobody-of-this-name")
    page.get_by_role("button", name="Give it").click()
    expect(page.get_by_role("alert")).to_contain_text("nobody-of-this-name")
    page.get_by_label("named").fill(group)
    page.get_by_role("button", name="Give it").click()
    expect(page.get_by_label(f"What group {group} may do")).to_have_value("read")
    assert flaws(page) == []
    colleague.picture("grants-light")

    with window(browser, site.base) as adas:
        adas.sign_in(ada)
        expect(adas.page.get_by_label("In")).to_have_value(contract)
        expect(adas.page.get_by_role("link", name="People")).to_have_count(0)
        adas.page.goto(f"/collections/{contract}")
        expect(adas.page.locator("#documents")).to_contain_text("contract.pdf")
        expect(adas.page.get_by_label("Choose files")).to_have_count(0)
        expect(adas.page.get_by_role("button", name="Delete")).to_have_count(0)
        expect(adas.page.get_by_role("heading", name="Who may do what")).to_have_count(0)
        adas.page.goto("/people")
        expect(adas.page.get_by_role("heading", name="This is not yours to see")).to_be_visible()

        page.get_by_role("button", name=f"Take away access of group {group}").click()
        expect(page.get_by_label(f"What group {group} may do")).to_have_count(0)
        adas.page.goto(f"/collections/{contract}")
        expect(adas.page.get_by_role("heading", name="This is not there for you")).to_be_visible()


def test_who_is_shut_out_is_out_at_once_and_who_is_deleted_is_gone(
    site: Site, browser: Browser, colleague: Window
) -> None:
    page = colleague.page
    ada = add_person(page, "editor")
    with window(browser, site.base) as adas:
        adas.sign_in(ada)

        page.get_by_role("button", name=f"Shut out {ada}").click()
        expect(person(page, ada)).to_contain_text("shut out")
        adas.page.goto("/collections")
        expect(adas.page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label(f"Role of {ada}").select_option("reader")
    expect(page.locator("#news")).to_have_text(f"{ada} is now reader.")
    page.get_by_role("button", name=f"New password for {ada}").click()
    page.get_by_label("Password, 12").fill(ANOTHER)
    page.get_by_role("button", name="Set it").click()
    expect(page.locator("#news")).to_have_text(f"{ada} has another password.")
    page.get_by_role("button", name=f"Let in {ada}").click()
    expect(person(page, ada)).not_to_contain_text("shut out")
    site.sign_in(ada, ANOTHER)

    page.get_by_role("button", name=f"Delete {ada}").click()
    page.get_by_role("button", name="Cancel").click()
    expect(person(page, ada)).to_be_visible()
    page.get_by_role("button", name=f"Delete {ada}").click()
    page.get_by_role("button", name="Delete", exact=True).last.click()

    expect(person(page, ada)).to_have_count(0)


def test_the_audit_is_read_by_who_and_what(colleague: Window) -> None:
    page = colleague.page
    ada = add_person(page, "editor")

    page.get_by_role("link", name="Audit").click()
    expect(page.locator("#entries tr").first).to_be_visible()
    page.get_by_label("Who").fill("admin")
    page.get_by_label("What begins with").fill("user.create")
    page.get_by_role("button", name="Show").click()

    expect(page.locator("#entries")).not_to_contain_text("sign-in")
    expect(page.locator("#entries tr").first).to_contain_text(f"users/{ada}")
    assert flaws(page) == []
    colleague.picture("audit-light")


def test_people_change_their_own_password(site: Site, browser: Browser, colleague: Window) -> None:
    ada = add_person(colleague.page, "editor")
    with window(browser, site.base) as adas:
        adas.sign_in(ada)
        page = adas.page
        page.get_by_role("link", name=ada).click()
        expect(page.get_by_text("Role editor")).to_be_visible()
        page.get_by_label("Current password").fill("not my password")
        page.get_by_label("New password").fill(ANOTHER)
        page.get_by_role("button", name="Change it").click()
        expect(page.get_by_role("alert")).to_contain_text("Current = wrong")
        page.get_by_label("Current password").fill(PASSWORD)
        page.get_by_role("button", name="Change it").click()

        expect(page.locator("#news")).to_have_text("Your password is changed.")
        expect(page.get_by_role("alert")).to_have_count(0)
        assert flaws(page) == []
        adas.picture("account-light")
    site.sign_in(ada, ANOTHER)


def test_a_key_is_shown_once_works_and_ends_when_revoked(site: Site, colleague: Window) -> None:
    page = colleague.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/account")

    page.get_by_label("Name").fill("nightly <upload>")
    page.get_by_label("May").select_option("also change documents and collections")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#keys")).to_contain_text("nightly <upload>")
    secret = page.locator(".secret").inner_text()
    page.get_by_role("button", name="Copy the key").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert flaws(page) == []
    colleague.picture("account-keys-light")
    program = Person(site.http, secret)
    assert program.get("/api/v1/me")["key"] == "nightly <upload>"
    page.reload()
    expect(page.locator("#keys tr")).to_have_count(1)
    expect(page.locator(".secret")).to_be_hidden()
    page.get_by_role("button", name="Revoke nightly <upload>").click()
    page.get_by_role("button", name="Revoke", exact=True).last.click()
    expect(page.get_by_text("You have no key.")).to_be_visible()

    assert program.call("GET", "/api/v1/me").status_code == 401


def test_signing_out_everywhere_ends_the_other_computer_too(site: Site, browser: Browser, colleague: Window) -> None:
    ada = add_person(colleague.page, "editor")
    with window(browser, site.base) as here, window(browser, site.base) as there:
        here.sign_in(ada)
        there.sign_in(ada)
        here.page.goto("/account")
        here.page.get_by_role("button", name="Sign out everywhere").click()
        here.page.get_by_role("button", name="Sign out", exact=True).last.click()
        expect(here.page.get_by_role("heading", name="Sign in")).to_be_visible()

        there.page.goto("/collections")
        expect(there.page.get_by_role("heading", name="Sign in")).to_be_visible()
