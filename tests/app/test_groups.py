"""Roles, groups and grants: who may do what with a collection, and who decides it."""

from uuid import uuid4

import pytest

from tests.app.site import PASSWORD, Person, Site


def name_of(person: Person) -> str:
    name: str = person.get("/api/v1/me")["name"]
    return name


def group_of(admin: Person, *members: Person) -> str:
    name = f"g{uuid4().hex[:8]}"
    assert admin.call("POST", "/api/v1/groups", json={"name": name}).status_code == 201
    for member in members:
        assert admin.call("PUT", f"/api/v1/groups/{name}/members/{name_of(member)}").status_code == 200
    return name


def give(giver: Person, collection: str, to: str, permission: str) -> int:
    path = f"/api/v1/collections/{collection}/grants/{to}"
    return giver.call("PUT", path, json={"permission": permission}).status_code


def may(person: Person, collection: str) -> str:
    """What the person's own list of collections says."""
    answer = person.get("/api/v1/collections")
    listed = answer["items"] if isinstance(answer, dict) else answer
    return next((one["permission"] for one in listed if one["name"] == collection), "")


def test_a_group_opens_a_collection_to_its_members_for_as_long_as_they_are_in_it(
    site: Site, admin: Person, collection: str
) -> None:
    ada = site.add_user()
    group = group_of(admin, ada)

    assert give(admin, collection, f"groups/{group}", "read") == 200
    assert may(ada, collection) == "read"
    assert ada.get("/api/v1/me")["groups"] == [group]
    assert admin.get(f"/api/v1/groups/{group}") == {"name": group, "members": [name_of(ada)]}

    assert admin.call("DELETE", f"/api/v1/groups/{group}/members/{name_of(ada)}").status_code == 204
    assert may(ada, collection) == ""
    assert ada.call("GET", f"/api/v1/collections/{collection}").status_code == 404


def test_of_several_grants_the_greatest_counts(site: Site, admin: Person, collection: str) -> None:
    ada = site.add_user()
    writers, readers = group_of(admin, ada), group_of(admin, ada)

    give(admin, collection, f"users/{name_of(ada)}", "read")
    give(admin, collection, f"groups/{readers}", "read")
    give(admin, collection, f"groups/{writers}", "write")
    assert may(ada, collection) == "write"

    give(admin, collection, f"users/{name_of(ada)}", "manage")
    assert may(ada, collection) == "manage"
    give(admin, collection, f"users/{name_of(ada)}", "read")
    assert may(ada, collection) == "write"

    assert admin.call("DELETE", f"/api/v1/groups/{writers}").status_code == 204
    assert may(ada, collection) == "read"


def test_who_makes_a_collection_manages_it_and_may_let_others_manage_it(site: Site) -> None:
    maker, colleague, stranger = site.add_user(), site.add_user(), site.add_user()
    collection = maker.make_collection()

    assert may(maker, collection) == "manage"
    assert give(stranger, collection, f"users/{name_of(stranger)}", "read") == 404
    assert give(maker, collection, f"users/{name_of(colleague)}", "write") == 200
    assert give(colleague, collection, f"users/{name_of(stranger)}", "read") == 403
    assert give(maker, collection, f"users/{name_of(colleague)}", "manage") == 200
    assert give(colleague, collection, f"users/{name_of(stranger)}", "read") == 200

    listed = maker.get(f"/api/v1/collections/{collection}/grants")["items"]
    assert {(one["kind"], one["name"], one["permission"]) for one in listed} == {
        ("user", name_of(maker), "manage"),
        ("user", name_of(colleague), "manage"),
        ("user", name_of(stranger), "read"),
    }
    assert stranger.call("GET", f"/api/v1/collections/{collection}/grants").status_code == 403


def test_a_reader_reads_and_no_more_whatever_was_granted(site: Site, admin: Person, collection: str) -> None:
    reader = site.add_user()
    path = f"/api/v1/users/{name_of(reader)}"
    give(admin, collection, f"users/{name_of(reader)}", "manage")
    group = group_of(admin, reader)
    give(admin, collection, f"groups/{group}", "manage")

    assert admin.call("PATCH", path, json={"role": "reader"}).json()["role"] == "reader"

    assert may(reader, collection) == "read"
    upload = reader.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": ("a.txt", b"a")})
    assert upload.status_code == 403
    assert give(reader, collection, f"users/{name_of(reader)}", "write") == 403
    assert reader.call("POST", "/api/v1/collections", json={"name": f"c{uuid4().hex[:8]}"}).status_code == 403

    admin.call("PATCH", path, json={"role": "editor"})
    assert may(reader, collection) == "manage"


def test_an_administrator_manages_what_others_made(site: Site, admin: Person) -> None:
    collection = site.add_user().make_collection()

    assert may(admin, collection) == "manage"
    assert give(admin, collection, f"users/{name_of(site.add_user())}", "read") == 200


def test_only_administrators_see_and_change_groups(site: Site, admin: Person) -> None:
    ada = site.add_user()
    group = group_of(admin)

    refused = [
        ada.call("GET", "/api/v1/groups"),
        ada.call("GET", f"/api/v1/groups/{group}"),
        ada.call("POST", "/api/v1/groups", json={"name": "mine"}),
        ada.call("PUT", f"/api/v1/groups/{group}/members/{name_of(ada)}"),
        ada.call("DELETE", f"/api/v1/groups/{group}"),
    ]

    assert [answer.status_code for answer in refused] == [403] * len(refused)


def test_groups_and_people_are_listed_in_pages(site: Site, admin: Person) -> None:
    names = sorted(group_of(admin) for _ in range(3))
    people = sorted(name_of(site.add_user()) for _ in range(3))

    for path, wanted in (("/api/v1/groups", names), ("/api/v1/users", people)):
        listed, after = [], ""
        while after is not None:
            answer = admin.get(path, params={"after": after, "limit": 2})
            assert len(answer["items"]) <= 2
            listed += [one["name"] for one in answer["items"]]
            after = answer["next"]
        assert listed == sorted(set(listed))
        assert set(wanted) <= set(listed)


def test_a_deleted_person_is_gone_and_what_they_made_stays(site: Site, admin: Person) -> None:
    person = site.add_user()
    name = name_of(person)
    collection = person.make_collection()
    document = person.upload(collection, "note.txt", b"The gate opens at nine.")

    assert admin.call("DELETE", f"/api/v1/users/{name}").status_code == 204

    assert person.call("GET", "/api/v1/me").status_code == 401
    assert site.http.post("/api/v1/token", data={"username": name, "password": PASSWORD}).status_code == 401
    assert admin.call("DELETE", f"/api/v1/users/{name}").status_code == 404
    assert admin.get(f"/api/v1/documents/{document['id']}")["file_name"] == "note.txt"
    assert admin.get(f"/api/v1/collections/{collection}/grants")["items"] == []


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "reader"}, None])
def test_nobody_shuts_out_demotes_or_deletes_themselves(admin: Person, change: dict[str, object] | None) -> None:
    method = "DELETE" if change is None else "PATCH"

    assert admin.call(method, "/api/v1/users/admin", json=change).status_code == 409
    assert admin.get("/api/v1/me")["role"] == "admin"


def test_the_administrator_whom_a_deploy_brings_back_is_not_deleted(site: Site, admin: Person) -> None:
    other = site.add_user()
    admin.call("PATCH", f"/api/v1/users/{name_of(other)}", json={"role": "admin"})

    answer = other.call("DELETE", "/api/v1/users/admin")

    assert answer.status_code == 409
    assert "first administrator" in answer.json()["detail"]


def test_a_grant_to_somebody_unknown_is_refused(admin: Person, collection: str) -> None:
    assert give(admin, collection, "users/nobody", "read") == 404
    assert give(admin, collection, "groups/nobody", "read") == 404
    assert give(admin, collection, "users/admin", "own") == 422
