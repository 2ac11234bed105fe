"""Strangers who send passwords without end: what they cost is bounded, and others sign in meanwhile."""

import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.store import guesses, refusals
from tests.app.hosts import another_host
from tests.app.servers import wait_for
from tests.app.site import PASSWORD, Site
from tests.app.test_guesses import an_address, known
from tests.app.test_limits import seconds_left

MOST = 10
LITTLE = {"sign_ins_per_minute": MOST, "wrong_keys_per_minute": MOST}


@pytest.fixture(scope="module")
def two_hosts(site: Site) -> Iterator[list[httpx.Client]]:
    """Two more APIs on the same database, where one address may show few passwords in a minute."""
    with another_host(site, **LITTLE) as one, another_host(site, **LITTLE) as other:
        yield [one, other]


def shown(client: httpx.Client, name: str, password: str, address: str, path: str = "/api/v1/token") -> httpx.Response:
    body = {"username": name, "password": password}
    return client.post(path, data=body, headers={"x-forwarded-for": address})


def a_strangers() -> str:
    """A key of the right form that this site never made."""
    return f"rag_{uuid4().hex}_{secrets.token_urlsafe(32)}"


def audited(site: Site, address: str) -> Counter[str]:
    with site.database.connect() as connection:
        rows = connection.execute(text("select action from audit where address = :address"), {"address": address})
        return Counter(rows.scalars())


def test_of_a_flood_from_one_address_few_are_looked_at_over_both_hosts_and_a_colleague_signs_in(
    site: Site, two_hosts: list[httpx.Client]
) -> None:
    colleague, stranger = known(site), an_address()
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 20, 25)
    left = seconds_left(site)
    with ThreadPoolExecutor(8) as pool:
        flood = [
            pool.submit(shown, two_hosts[number % 2], f"nobody{uuid4().hex}", "a wrong one", stranger, path)
            for number, path in enumerate(["/api/v1/token", "/sign-in"] * 100)
        ]
        others = [shown(host, colleague, PASSWORD, an_address()).status_code for host in two_hosts * 2]
        answers = [one.result() for one in flood]

    assert others == [200] * 4
    statuses = Counter(answer.status_code for answer in answers)
    # On a machine that is busy the next minute may have begun, which has a count of its own.
    most = MOST if seconds_left(site) < left else 2 * MOST
    # Whoever waits too long for a turn is turned away as well.
    assert 0 < statuses[401] <= most, statuses
    assert statuses[401] + statuses[429] == 200
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in refused)
    # A page says it in other words, and one that waited for its turn says that.
    assert any("sign-ins = " in one.text for one in refused)
    wait_for("the audit has what was looked at", lambda: audited(site, stranger).total() >= statuses[401])
    assert set(audited(site, stranger)) == {"sign-in.refused"}
    assert audited(site, stranger).total() <= most
    figures = two_hosts[0].get("/metrics").text
    assert 'rag_requests_limited_total{kind="sign-ins"}' in figures


def test_beyond_some_in_an_hour_the_audit_has_one_more_line_for_an_address(site: Site) -> None:
    stranger, other = an_address(), an_address()
    with ThreadPoolExecutor(2) as pool:
        tries = [
            pool.submit(shown, site.http, f"nobody{uuid4().hex}", "a wrong one", stranger)
            for _ in range(refusals.LISTED + 9)
        ]
        assert {one.result().status_code for one in tries} == {401}
    assert shown(site.http, "nobody", "a wrong one", other).status_code == 401

    assert audited(site, stranger) == {"sign-in.refused": refusals.LISTED, "sign-in.flood": 1}
    assert audited(site, other) == {"sign-in.refused": 1}


def test_keys_that_are_nobodys_are_looked_up_a_few_times_and_good_ones_go_on(
    site: Site, two_hosts: list[httpx.Client]
) -> None:
    owner, stranger = site.add_user(), an_address()
    made = owner.call("POST", "/api/v1/keys", json={"name": "job", "scopes": ["read"]}).json()["secret"]

    def used(host: httpx.Client, key: str) -> httpx.Response:
        return host.get("/api/v1/me", headers={"authorization": f"Bearer {key}", "x-forwarded-for": stranger})

    for host in two_hosts:
        assert used(host, made).status_code == 200
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 10, 15)
    statuses = Counter(used(two_hosts[number % 2], a_strangers()).status_code for number in range(100))
    formless = {used(two_hosts[0], f"rag_{uuid4().hex}{tail}").status_code for tail in ("", "_short", "_" + "x" * 44)}

    # Each host counts at once what came to it, and a moment later what came to the other.
    assert statuses[401] <= 2 * MOST
    assert statuses[401] + statuses[429] == 100
    assert formless == {401}
    assert [used(host, made).status_code for host in two_hosts] == [200, 200]
    assert used(two_hosts[0], a_strangers()).status_code == 429
    # One that no host has seen yet: whoever works behind that address begins in the middle of the flood.
    first, revoked = (
        owner.call("POST", "/api/v1/keys", json={"name": name, "scopes": ["read"]}).json() for name in ("first", "gone")
    )
    assert owner.call("DELETE", f"/api/v1/keys/{revoked['id']}").status_code == 204
    assert [used(host, first["secret"]).status_code for host in two_hosts] == [200, 200]
    # A mark of this site's is no way around: what is known to be over counts like a stranger's.
    assert [used(two_hosts[0], revoked["secret"]).status_code for _ in range(2)] == [401, 429]


def test_of_a_flood_from_many_networks_of_one_customer_few_are_looked_at_and_a_colleague_signs_in(
    site: Site, two_hosts: list[httpx.Client]
) -> None:
    colleague, customer = known(site), f"2001:db8:{uuid4().hex[:4]}"
    wait_for("the minute is not about to end", lambda: seconds_left(site) > 20, 25)
    with ThreadPoolExecutor(8) as pool:
        flood = [
            pool.submit(shown, two_hosts[n % 2], f"nobody{uuid4().hex}", "a wrong one", f"{customer}:{n:x}::1")
            for n in range(100)
        ]
        others = [shown(host, colleague, PASSWORD, an_address()).status_code for host in two_hosts * 2]
        statuses = Counter(one.result().status_code for one in flood)

    assert others == [200] * 4
    assert 0 < statuses[401] <= MOST
    assert statuses[401] + statuses[429] == 100
    # What one has guessed wrong is their own network's, as before.
    assert guesses.network(f"{customer}:1::1") != guesses.network(f"{customer}:2::1")
