"""A site that has the release before: its people and grants after the migration, and its program beside the new one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text

from app.store import collections, migrate, users
from app.store.schema import Scripts
from tests.app.servers import wait_for
from tests.app.site import Person, Site

MAKER, READER, WRITER, ADMIN = (uuid4() for _ in range(4))


@dataclass(frozen=True)
class Old:
    """A database whose rows the release before wrote."""

    database: Engine
    configuration: str


@pytest.fixture
def old(site: Site) -> Iterator[Old]:
    name = f"old{uuid4().hex[:8]}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    path = site.folder / f"{name}.toml"
    path.write_text((site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{name}"'))
    made = create_engine(site.database.url.set(database=name))
    with made.begin() as connection:
        connection.execute(text("set local role rag_owner"))
        command.upgrade(Scripts(connection).config, "0001")
        add_person(connection, ADMIN, "root", "admin")
        for user_id, person in ((MAKER, "maker"), (READER, "reader"), (WRITER, "writer")):
            add_person(connection, user_id, person, "user")
        add_collection(connection, "manuals", MAKER)
        for user_id, permission in ((MAKER, "write"), (READER, "read"), (WRITER, "write")):
            give(connection, "manuals", user_id, permission)
    yield Old(made, str(path))
    made.dispose()


@pytest.fixture
def upgraded(site: Site, old: Old) -> Engine:
    """The same, brought to this release's schema."""
    migrated = site.run("app.store.migrate", RAG_CONFIG=old.configuration)
    assert (migrated.stdout, migrated.stderr) == ("changed\n", "")
    return old.database


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


def version(database: Engine) -> str:
    with database.connect() as connection:
        return str(connection.execute(text("select version_num from alembic_version")).scalar_one())


def test_a_migration_that_has_to_wait_holds_nobody_up_and_keeps_what_is_done(site: Site, old: Old) -> None:
    with ThreadPoolExecutor(1) as pool:
        with old.database.begin() as holding:
            # A long read, as of somebody's report: the third migration changes this table after that of the documents.
            holding.execute(text("select count(*) from passages"))
            running = pool.submit(site.run, "app.store.migrate", RAG_CONFIG=old.configuration)
            wait_for("the second is done", lambda: version(old.database) == "0002", 60)
            waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = :name")
            for _ in range(3):
                with old.database.connect() as connection:
                    name = {"name": old.database.url.database}
                    wait_for("the third waits", lambda: connection.execute(waiting, name).scalar_one(), 30)  # noqa: B023
                    connection.execute(text("set statement_timeout = '10s'"))
                    for table in ("users", "documents"):
                        connection.execute(text(f"select count(*) from {table}"))
            assert not running.done()
        assert (running.result().returncode, running.result().stdout) == (0, "changed\n")


def test_a_migration_that_never_gets_its_turn_says_so_in_one_line(
    site: Site, old: Old, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_CONFIG", old.configuration)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setattr(migrate, "LOCK_TRIES", 1)

    with old.database.begin() as holding:
        holding.execute(text("select count(*) from documents"))
        ended = migrate.main([])

    said = capsys.readouterr().err
    assert (ended, len(said.splitlines())) == (3, 1)
    assert said.startswith("schema = a table held by others at 1 tries of 2 s; ")
    assert site.run("app.store.migrate", RAG_CONFIG=old.configuration).stdout == "changed\n"


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_the_schema_of_a_later_release_is_refused_with_what_to_do(
    site: Site, upgraded: Engine, old: Old, arguments: list[str]
) -> None:
    with upgraded.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))

    refused = site.run("app.store.migrate", *arguments, RAG_CONFIG=old.configuration)

    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert refused.stderr.startswith("schema = 9999; this release knows it up to 00")
    assert "Go back to the release before" in refused.stderr
