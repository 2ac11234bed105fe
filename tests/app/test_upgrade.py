"""A site that has the release before: its people and grants after the migration, and its program beside the new one."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text

from app.store import collections, users
from app.store.migrate import _alembic
from tests.app.site import Person, Site

MAKER, READER, WRITER, ADMIN = (uuid4() for _ in range(4))


@pytest.fixture
def upgraded(site: Site) -> Iterator[Engine]:
    """A database whose rows the release before wrote, brought to this one's schema."""
    name = f"old{uuid4().hex[:8]}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    path = site.folder / f"{name}.toml"
    path.write_text((site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{name}"'))
    old = create_engine(site.database.url.set(database=name))
    with old.begin() as connection:
        connection.execute(text("set local role rag_owner"))
        command.upgrade(_alembic(connection), "0001")
        add_person(connection, ADMIN, "root", "admin")
        for user_id, person in ((MAKER, "maker"), (READER, "reader"), (WRITER, "writer")):
            add_person(connection, user_id, person, "user")
        add_collection(connection, "manuals", MAKER)
        for user_id, permission in ((MAKER, "write"), (READER, "read"), (WRITER, "write")):
            give(connection, "manuals", user_id, permission)
    migrated = site.run("app.store.migrate", RAG_CONFIG=str(path))
    assert (migrated.stdout, migrated.stderr) == ("changed\n", "")
    yield old
    old.dispose()


def add_person(connection: Connection, user_id: UUID, name: str, role: str) -> None:
    """As the program before this one does it."""
    connection.execute(
        text(
            "insert into users (id, name, password_hash, role) values (:id, :name, '!', :role) on conflict do nothing"
        ),
        {"id": user_id, "name": name, "role": role},
    )


def add_collection(connection: Connection, name: str, maker: UUID) -> None:
    statement = text("insert into collections (id, name, created_by) values (gen_random_uuid(), :name, :maker)")
    connection.execute(statement, {"name": name, "maker": maker})


def give(connection: Connection, collection: str, user_id: UUID, permission: str) -> None:
    connection.execute(
        text(
            "insert into grants (collection_id, user_id, permission)"
            " values ((select id from collections where name = :name), :user, :permission)"
            " on conflict (collection_id, user_id) do update set permission = excluded.permission"
        ),
        {"name": collection, "user": user_id, "permission": permission},
    )


def permission_of(connection: Connection, name: str, collection: str = "manuals") -> str:
    user = users.find_by_name(connection, name)
    assert user
    found = collections.find(connection, user, collection)
    return found.permission if found else ""


def test_everybody_may_what_they_might_before_and_who_made_a_collection_manages_it(upgraded: Engine) -> None:
    with upgraded.connect() as connection:
        roles = {entry.user.name: entry.user.role for entry in users.listed(connection, 10)}
        may = {name: permission_of(connection, name) for name in roles}

    expected = {"root": "admin", "admin": "admin", "maker": "editor", "reader": "editor", "writer": "editor"}
    assert roles == expected
    assert may == {"root": "manage", "admin": "manage", "maker": "manage", "reader": "read", "writer": "write"}


def test_the_program_before_goes_on_in_the_new_schema(upgraded: Engine) -> None:
    with upgraded.begin() as connection:
        connection.execute(text("set local role rag"))
        add_person(connection, uuid4(), "newcomer", "user")
        add_collection(connection, "plans", WRITER)
        give(connection, "plans", WRITER, "write")
        # It takes from a manager what it knows of.
        give(connection, "manuals", MAKER, "read")

    with upgraded.connect() as connection:
        newcomer = users.find_by_name(connection, "newcomer")
        may = {permission_of(connection, "writer", "plans"), permission_of(connection, "maker")}
        manager_as_before = connection.execute(
            text("select permission from grants where user_id = :id and manages"), {"id": MAKER}
        ).scalar_one()

    assert newcomer is not None
    assert newcomer.role == "editor"
    assert may == {"write", "read"}
    assert manager_as_before == "read"


def test_who_manages_a_collection_writes_to_it_as_the_program_before_sees_it(site: Site) -> None:
    person: Person = site.add_user()
    collection = person.make_collection()
    with site.database.connect() as connection:
        statement = text("select permission from grants join collections c on c.id = collection_id where name = :name")
        assert connection.execute(statement, {"name": collection}).scalar_one() == "write"
