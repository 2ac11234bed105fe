"""Three roles at the database: who may change tables, who may change rows, and who may only look."""

from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.app.site import Site

DENIED = "42501"


def refused(site: Site, role: str, statement: str) -> str | None:
    """The code with which the server refuses it to the role; None when it does not, and then it is undone."""
    pool: Engine = create_engine(site.database.url.set(username=role))
    try:
        with pool.connect() as connection:
            connection.execute(text(statement))
            return None
    except DBAPIError as error:
        code: str | None = getattr(error.orig, "pgcode", None)
        return code
    finally:
        pool.dispose()


@pytest.mark.parametrize("role", ["rag", "rag_read"])
@pytest.mark.parametrize(
    "statement",
    [
        "create table mine (id integer)",
        "drop table jobs",
        "alter table users add column x integer",
        "truncate jobs",
        "create schema mine",
        "update alembic_version set version_num = '0'",
    ],
)
def test_nobody_but_the_owner_changes_tables(site: Site, role: str, statement: str) -> None:
    assert refused(site, role, statement) in {DENIED, "42P07"}
    assert refused(site, "rag_owner", statement) is None


@pytest.mark.parametrize(
    "statement",
    [
        "insert into collections (name) values ('mine')",
        "update users set disabled = true",
        "delete from documents",
        "select nextval('jobs_id_seq')",
    ],
)
def test_the_reader_changes_no_row_and_the_application_does(site: Site, statement: str) -> None:
    assert refused(site, "rag_read", statement) == DENIED
    assert refused(site, "rag", statement) is None


@pytest.mark.parametrize("change", ["update audit set actor = 'x'", "delete from audit", "truncate audit"])
@pytest.mark.parametrize("role", ["rag", "rag_read"])
def test_nobody_but_the_owner_rewrites_the_audit(site: Site, role: str, change: str) -> None:
    assert refused(site, role, change) == DENIED
    assert refused(site, "rag_owner", change) is None


def test_the_application_adds_to_the_audit_and_purges_what_is_old_enough(site: Site) -> None:
    add = (
        "insert into audit (id, actor, action, object, detail, request_id, address)"
        " values (gen_random_uuid(), 'ada', 'test', 'things/1', '{}', '', '')"
    )

    assert (refused(site, "rag", add), refused(site, "rag_read", add)) == (None, DENIED)
    assert refused(site, "rag", "select purge_audit(interval '30 days')") is None
    assert refused(site, "rag", "select purge_audit(interval '29 days 23 hours')") == "23514"
    assert refused(site, "rag", "select purge_audit(null)") == "23514"
    assert refused(site, "rag_read", "select purge_audit(interval '30 days')") == DENIED


def test_a_privilege_to_rewrite_the_audit_is_taken_back_by_the_next_deploy(site: Site) -> None:
    with site.database.begin() as connection:
        connection.execute(text("grant delete on audit to rag"))

    check, migrated, again = (site.run("app.store.migrate", *flags) for flags in (["--check"], [], ["--check"]))

    assert (check.returncode, migrated.stdout, again.stdout) == (1, "changed\n", "unchanged\n")
    assert refused(site, "rag", "delete from audit") == DENIED


@pytest.mark.parametrize("role", ["rag", "rag_read"])
def test_both_read_and_listen(site: Site, role: str) -> None:
    assert refused(site, role, "select * from users; select * from alembic_version; listen rag_changes") is None


def test_a_site_from_before_the_roles_gets_its_privileges_from_the_next_migration(site: Site) -> None:
    name = f"old{uuid4().hex[:8]}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    path = site.folder / f"{name}.toml"
    path.write_text((site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{name}"'))
    assert site.run("app.store.migrate", RAG_CONFIG=str(path)).stdout == "changed\n"
    old = create_engine(site.database.url.set(database=name))
    with old.begin() as connection:
        connection.execute(text("revoke all on all tables in schema public from rag, rag_read"))
        connection.execute(text("create table somebody_elses (id serial primary key)"))

    check = site.run("app.store.migrate", "--check", RAG_CONFIG=str(path))
    migrated = site.run("app.store.migrate", RAG_CONFIG=str(path))
    again = site.run("app.store.migrate", "--check", RAG_CONFIG=str(path))

    assert (check.returncode, migrated.stdout, again.stdout) == (1, "changed\n", "unchanged\n")
    with old.connect() as connection:
        statement = text(
            "select has_table_privilege('rag', 'users', 'update'), has_table_privilege('rag_read', 'users', 'select'),"
            " has_table_privilege('rag_read', 'somebody_elses', 'select')"
        )
        assert tuple(connection.execute(statement).one()) == (True, True, False)
    old.dispose()
