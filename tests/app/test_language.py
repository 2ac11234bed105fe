"""The language of the full text is the site's; another one means all words anew, by the migration."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from app.retrieve.weights import Frequencies
from app.store import fulltext, matching, passages
from app.store.matching import Scope
from app.store.passages import NewPassage
from tests.app.ollama_standin import DIMENSION, EMBED
from tests.app.servers import Process, wait_for
from tests.app.site import Person, Site

QUESTION = "Wie lang sind die Kündigungsfristen der Verträge?"
GERMAN = "Die Kündigungsfrist beträgt in jedem Vertrag neunzig Tage."


def configured(site: Site, database: str, language: str) -> str:
    """A configuration of its own database and language."""
    path = site.folder / f"{database}-{language}.toml"
    written = (site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{database}"')
    path.write_text(f'{written}\n[answering]\nlanguage = "{language}"\n')
    return str(path)


def found(connection: Connection, scope: Scope, question: str = QUESTION) -> int:
    asked = Frequencies().asked(connection, scope.collections, question)
    return len(matching.matching(connection, scope, asked.present, 5))


@dataclass(frozen=True)
class English:
    """A database of its own, in English, with a passage in German; and a configuration that says it is German."""

    database: Engine
    german: str
    scope: Scope


@pytest.fixture
def made(site: Site) -> Iterator[English]:
    name = f"language{uuid4().hex}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    english, german = (configured(site, name, language) for language in ("english", "german"))
    assert site.run("app.store.migrate", RAG_CONFIG=english).stdout == "changed\n"
    database = create_engine(site.database.url.set(database=name))
    with database.begin() as connection:
        scope = Scope((add_passage(connection),))
    yield English(database, german, scope)
    database.dispose()


def test_another_language_is_a_migration_after_which_its_words_are_found_in_all_their_forms(
    site: Site, made: English
) -> None:
    database, german, scope = made.database, made.german, made.scope
    with database.connect() as connection:
        before = found(connection, scope)

    check = site.run("app.store.migrate", "--check", RAG_CONFIG=german)
    done = site.run("app.store.migrate", RAG_CONFIG=german)
    again = site.run("app.store.migrate", RAG_CONFIG=german)

    with database.connect() as connection:
        after = found(connection, scope)
        indexes = connection.execute(
            text("select indexdef from pg_indexes where indexname = 'passages_words'")
        ).scalars()
        assert "gin" in indexes.one()
        column = text("select attnotnull from pg_attribute where attrelid = 'passages'::regclass and attname = 'words'")
        assert connection.execute(column).scalar_one()
    assert (before, after) == (0, 1)
    assert (check.returncode, check.stdout) == (1, "changed\n")
    assert (done.stdout, done.stderr) == ("changed\n", "full text = german; the words of 1 passages made anew\n")
    assert again.stdout == "unchanged\n"


def test_while_the_words_are_made_anew_the_old_ones_are_found_and_a_migration_that_is_killed_is_gone_on_with(
    site: Site, made: English
) -> None:
    # As the document is written, which in English is the only form that is found.
    as_written = "Kündigungsfrist"
    waits = text("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = :name)")
    migration = Process(
        [sys.executable, "-m", "app.store.migrate"],
        {**site.environment, "RAG_CONFIG": made.german},
        site.folder / "language.log",
    )

    def is_held_up() -> bool:
        with made.database.connect() as connection:
            return bool(connection.execute(waits, {"name": made.database.url.database}).scalar_one())

    with made.database.begin() as connection:
        connection.execute(text("set local role rag_owner"))
        for statement in fulltext._BEGIN:
            connection.execute(text(statement.format("german")))
    with made.database.begin() as holding:
        # An upload that is not done with its passages: the words of this one cannot be made.
        holding.execute(text("select 1 from passages for update"))
        migration.launch()
        wait_for("its words are to be made", is_held_up)
        with made.database.begin() as connection:
            connection.execute(text("set local statement_timeout = '10s'"))
            assert (found(connection, made.scope), found(connection, made.scope, as_written)) == (0, 1)
            later = Scope((add_passage(connection),))
            assert found(connection, later, as_written) == 1
        migration.stop(signal.SIGKILL)
    done = site.run("app.store.migrate", RAG_CONFIG=made.german)

    assert (done.stdout, done.stderr) == ("changed\n", "full text = german; the words of 2 passages made anew\n")
    with made.database.begin() as connection:
        newest = Scope((add_passage(connection),))
        assert [found(connection, scope) for scope in (made.scope, later, newest)] == [1, 1, 1]


def test_of_a_change_that_was_begun_and_given_up_nothing_is_left(site: Site, made: English) -> None:
    with made.database.begin() as connection:
        connection.execute(text("set local role rag_owner"))
        for statement in fulltext._BEGIN:
            connection.execute(text(statement.format("german")))
    english = configured(site, str(made.database.url.database), "english")

    check = site.run("app.store.migrate", "--check", RAG_CONFIG=english)
    done = site.run("app.store.migrate", RAG_CONFIG=english)
    again = site.run("app.store.migrate", RAG_CONFIG=english)

    assert (check.returncode, done.stdout, again.stdout) == (1, "changed\n", "unchanged\n")
    with made.database.begin() as connection:
        assert found(connection, Scope((add_passage(connection),)), "Kündigungsfrist") == 1


def test_a_question_in_another_language_than_the_documents_still_finds_by_vectors(
    site: Site, admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "rain.txt", b"Rain falls in spring."))
    site.wait_until_in_step()

    results = admin.search(collection, "Wann regnet es?")["results"]

    assert [(result["title"], result["lexical"]) for result in results] == [("rain.txt", None)]


@pytest.mark.parametrize("language", ["klingon", "german'; drop table users"])
def test_a_language_that_postgresql_does_not_bring_is_refused_by_its_name(site: Site, language: str) -> None:
    refused = site.run("app.store.migrate", RAG_CONFIG=configured(site, "rag", language))

    assert refused.returncode == 2
    assert refused.stderr.startswith("answering.language = ")
    assert len(refused.stderr.splitlines()) == 1


def add_passage(connection: Connection) -> UUID:
    """A document of one passage in a collection of its own, whose id this is."""
    collection, document = uuid4(), uuid4()
    connection.execute(
        text("insert into collections (id, name) values (:id, :name)"),
        {"id": collection, "name": f"verträge {collection}"},
    )
    connection.execute(
        text(
            "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
            " values (:id, :collection, 'v', 'v.txt', 'text/plain', 'x', 1, 'x', 'indexed')"
        ),
        {"id": document, "collection": collection},
    )
    new = NewPassage(0, GERMAN, (), {}, np.ones(DIMENSION, dtype=np.float32))
    passages.replace(connection, collection, document, EMBED, [new])
    return collection
