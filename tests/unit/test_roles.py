"""Roles: made once, put right when they differ, and no password on the way."""

from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host

from tasks.roles import NOTHING, Marks, Role, roles

OWNER = Role("rag_owner", "owner's secret")
PROGRAM = Role("rag", "program's secret")
WHOLE = {"rag_owner": OWNER.mark, "rag": PROGRAM.mark, "rag.": "rag_owner"}


def commands(found: dict[str, str]) -> list[str]:
    """What psql is told, one text a call."""
    asked = SimpleNamespace(get_fact=lambda *_, **__: found, noop=lambda _: None)
    with ctx_host.use(asked):
        made = [*roles._inner(wanted=[OWNER, PROGRAM], database="rag", owner="rag_owner")]
    return [f"{command} < {command.connector_arguments['_stdin']}" for command in made]


@pytest.mark.parametrize("found", [WHOLE, {"replica": ""}, WHOLE | {"replica": ""}])
def test_nothing_is_done_where_all_is_there_or_on_a_replica(found: dict[str, str]) -> None:
    assert commands(found) == []


def test_an_empty_server_gets_roles_and_a_database_of_the_owner_s() -> None:
    made, database = commands({"postgres": ""})

    assert "ALTER ROLE rag_owner LOGIN NOSUPERUSER" in made
    assert "ALTER ROLE rag LOGIN NOSUPERUSER" in made
    assert "CREATE DATABASE rag" in database
    assert "ALTER DATABASE rag OWNER TO rag_owner" in database


def test_what_another_role_owned_becomes_the_owner_s_before_the_database_says_so() -> None:
    _, handed_over, last = commands({"rag": "old", "rag.": "rag"})

    assert "REASSIGN OWNED BY rag TO rag_owner" in handed_over
    assert "--single-transaction" in handed_over
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO rag;" in handed_over
    assert "ALTER DATABASE rag OWNER TO rag_owner" in last


def test_only_the_role_that_differs_is_put_right() -> None:
    made, _ = commands(WHOLE | {"rag": "a former password's"})

    assert "ALTER ROLE rag LOGIN" in made
    assert "rag_owner LOGIN" not in made


def test_no_password_leaves_the_controller_and_no_verifier_reaches_a_log() -> None:
    made, _ = commands({})

    assert "secret" not in made
    assert made.index("log_min_error_statement") < made.index("SCRAM-SHA-256$")
    assert "ALTER ROLE rag SET log_min_error_statement = 'panic'" in made
    assert "secret" not in repr(OWNER)


@pytest.mark.parametrize(
    "other", [Role("rag", "another"), Role("rag", PROGRAM.password, member_of="pg_monitor"), Role("rag", "x", NOTHING)]
)
def test_another_password_right_or_group_is_another_mark(other: Role) -> None:
    assert other.mark != PROGRAM.mark


def test_the_server_s_answer_is_read_back() -> None:
    fact: Any = Marks()

    assert fact.process(["postgres ", "rag 0123abcd", "rag. rag_owner"]) == {
        "postgres": "",
        "rag": "0123abcd",
        "rag.": "rag_owner",
    }
