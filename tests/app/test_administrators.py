"""Administrators who take each other's place at the same moment: one of them stays."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from app.store import passwords
from tests.app.servers import wait_for
from tests.app.site import Person, Site


def administrator(site: Site, admin: Person) -> tuple[str, Person]:
    """Another one."""
    person = site.add_user()
    name: str = person.get("/api/v1/me")["name"]
    assert admin.call("PATCH", f"/api/v1/users/{name}", json={"role": "admin"}).status_code == 200
    return name, person


@pytest.mark.parametrize(
    ("method", "change"), [("PATCH", {"role": "reader"}), ("PATCH", {"disabled": True}), ("DELETE", None)]
)
def test_of_two_who_put_each_other_out_at_the_same_moment_one_stays(
    site: Site, admin: Person, method: str, change: dict[str, Any] | None
) -> None:
    (one, as_one), (other, as_other) = administrator(site, admin), administrator(site, admin)

    with ThreadPoolExecutor(2) as pool, site.database.connect() as holding:
        # Both have been let through when their changes may begin.
        holding.execute(
            text("select 1 from users where name in (:one, :other) for update"), {"one": one, "other": other}
        )
        changes = [
            pool.submit(as_one.call, method, f"/api/v1/users/{other}", json=change),
            pool.submit(as_other.call, method, f"/api/v1/users/{one}", json=change),
        ]
        wait_for("both wait", lambda: waiting(site) == 2)
        holding.rollback()
        statuses = sorted(answer.result().status_code for answer in changes)

    assert (statuses[0] < 300, statuses[1]) == (True, 403)
    with site.database.connect() as connection:
        left = text("select count(*) from users where name in (:one, :other) and role = 'admin' and not disabled")
        assert connection.execute(left, {"one": one, "other": other}).scalar_one() == 1


@pytest.mark.parametrize(
    ("method", "change"), [("PATCH", {"role": "reader"}), ("PATCH", {"disabled": True}), ("DELETE", None)]
)
def test_the_last_administrator_with_a_password_is_kept_from_one_without(
    site: Site, admin: Person, method: str, change: dict[str, Any] | None
) -> None:
    (last, _), (_, other) = administrator(site, admin), administrator(site, admin)
    path = f"/api/v1/users/{last}"
    with site.database.begin() as connection:
        found = connection.execute(
            text("select id, password_hash from users where role = 'admin' and name <> :last"), {"last": last}
        )
        others = [{"id": row.id, "hash": row.password_hash} for row in found]
        connection.execute(
            text("update users set password_hash = :none where role = 'admin' and name <> :last"),
            {"last": last, "none": passwords.NONE},
        )

    try:
        refused = other.call(method, path, json=change)
        assert other.call("PATCH", path, json={"role": "admin", "disabled": False}).status_code == 200
    finally:
        with site.database.begin() as connection:
            connection.execute(text("update users set password_hash = :hash where id = :id"), others)

    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        f"name = {last}, the last administrator with a password; another administrator with a password first",
    )
    assert other.call(method, path, json=change).status_code < 300


def waiting(site: Site) -> int:
    with site.database.connect() as connection:
        statement = text("select count(*) from pg_stat_activity where usename = 'rag' and wait_event_type = 'Lock'")
        return int(connection.execute(statement).scalar_one())
