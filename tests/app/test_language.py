"""The language of the full text is the site's; another one means all words anew, by the migration."""

from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, create_engine, text

from app.retrieve.weights import Frequencies
from app.store import matching, passages
from app.store.matching import Scope
from app.store.passages import NewPassage
from tests.app.site import Person, Site

QUESTION = "Wie lang sind die Kündigungsfristen der Verträge?"
GERMAN = "Die Kündigungsfrist beträgt in jedem Vertrag neunzig Tage."


def configured(site: Site, database: str, language: str) -> str:
    """A configuration of its own database and language."""
    path = site.folder / f"{database}-{language}.toml"
    written = (site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{database}"')
    path.write_text(f'{written}\n[answering]\nlanguage = "{language}"\n')
    return str(path)


def found(connection: Connection, scope: Scope, language: str) -> int:
    asked = Frequencies(language).asked(connection, scope.collections, QUESTION)
    return len(matching.matching(connection, scope, asked.present, language, 5))


def test_another_language_is_a_migration_after_which_its_words_are_found_in_all_their_forms(site: Site) -> None:
    name = f"language{uuid4().hex}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    english, german = (configured(site, name, language) for language in ("english", "german"))
    assert site.run("app.store.migrate", RAG_CONFIG=english).stdout == "changed\n"
    database = create_engine(site.database.url.set(database=name))
    with database.begin() as connection:
        scope = Scope((add_passage(connection),))
        before = found(connection, scope, "english")

    check = site.run("app.store.migrate", "--check", RAG_CONFIG=german)
    done = site.run("app.store.migrate", RAG_CONFIG=german)
    again = site.run("app.store.migrate", RAG_CONFIG=german)

    with database.connect() as connection:
        after = found(connection, scope, "german")
        indexes = connection.execute(
            text("select indexdef from pg_indexes where indexname = 'passages_words'")
        ).scalars()
        assert "gin" in indexes.one()
    database.dispose()
    assert (before, after) == (0, 1)
    assert (check.returncode, check.stdout) == (1, "changed\n")
    assert (done.stdout, done.stderr) == ("changed\n", "full text = german; the words of 1 passages made anew\n")
    assert again.stdout == "unchanged\n"


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
    connection.execute(text("insert into collections (id, name) values (:id, 'verträge')"), {"id": collection})
    connection.execute(
        text(
            "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
            " values (:id, :collection, 'v', 'v.txt', 'text/plain', 'x', 1, 'x', 'indexed')"
        ),
        {"id": document, "collection": collection},
    )
    new = NewPassage(0, GERMAN, (), {}, np.ones(3, dtype=np.float32))
    passages.replace(connection, collection, document, "any", [new])
    return collection
