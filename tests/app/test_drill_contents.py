"""What a drill holds a restored database to: passages as the indexes were told of them, and something to ask for."""

import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text

from app.backup import manifest
from app.backup.drill import contents, golden
from app.backup.drill.checks import CheckError
from app.backup.recovered import Server
from app.store import changes
from app.store.schema import Scripts
from tests.app.servers import postgresql

PROSE = "The notice period of the contract with Halden is ninety days from the first of a month."


@dataclass(frozen=True)
class Reached(Server):
    """A server that is reached by an address: the test's own was not restored."""

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"


@dataclass(frozen=True)
class Restored:
    """A database with this release's schema, in which a test may change anything."""

    server: Reached
    pool: Engine

    def does(self, statement: str, **values: object) -> None:
        with self.pool.begin() as connection:
            connection.execute(text(statement), values)

    def indexed(self, *passages: str) -> uuid.UUID:
        """A document with these passages, told as the program tells it."""
        document, collection = uuid.uuid4(), uuid.uuid4()
        with self.pool.begin() as connection:
            connection.execute(
                text("insert into collections (id, name) values (:id, :name)"),
                {"id": collection, "name": str(collection)},
            )
            connection.execute(
                text(
                    "insert into documents"
                    " (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
                    " values (:id, :collection, 'Contract', 'contract.txt', 'text/plain',"
                    " encode(sha256('x'), 'hex'), 1, 'x', 'indexed')"
                ),
                {"id": document, "collection": collection},
            )
            for ordinal, passage in enumerate(passages):
                connection.execute(
                    text(
                        "insert into passages (document_id, ordinal, collection_id, text, section, embedding, model,"
                        " dimension) values (:id, :ordinal, :collection, :text, '', '\\x00', 'm', 1)"
                    ),
                    {"id": document, "ordinal": ordinal, "collection": collection, "text": passage},
                )
            changes.append(connection, "indexed", collection, document, len(passages))
        return document

    def counted(self) -> dict[str, Any]:
        """As the manifest has it that is written beside a base."""
        link = self.pool.raw_connection()
        cursor = link.cursor()
        told = manifest.tables_of(cursor)
        cursor.execute("select version_num from alembic_version")
        (schema,) = cursor.fetchone()
        link.close()
        return {"at": datetime.now(UTC).isoformat(), "schema": schema, **told}


@pytest.fixture(scope="module")
def made() -> Iterator[Restored]:
    with tempfile.TemporaryDirectory(prefix="rag-") as folder, postgresql(Path(folder)) as server:
        address = f"postgresql+psycopg2://postgres@{server.address}:{server.port}"
        admin = create_engine(f"{address}/postgres", isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("create database rag"))
            connection.execute(text("create role rag_owner"))
        admin.dispose()
        pool = create_engine(f"{address}/rag")
        with pool.begin() as connection:
            command.upgrade(Scripts(connection).config, "head")
        yield Restored(Reached(Path(folder), server.port, server.programs), pool)
        pool.dispose()


@pytest.fixture
def restored(made: Restored) -> Restored:
    made.does("truncate collections, documents, passages, changes cascade")
    return made


def test_a_database_with_every_passage_passes_and_an_empty_site_says_that_it_is_one(restored: Restored) -> None:
    assert contents.passages(restored.server, restored.counted()) == "none, since no document is indexed"
    restored.indexed(PROSE, "Two.")

    said = contents.passages(restored.server, restored.counted())

    assert said == "2 of 1 indexed documents, as many of each as the indexes were told"


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("delete from passages", r"\(contract.txt\) = 0; 2 as the indexes were told; 2 of 2 indexed documents"),
        ("delete from passages where ordinal = 1", r"= 1; 2 as the indexes were told; 2 of 2"),
        ("delete from passages; delete from changes", r"= 0; at least 1; 2 of 2"),
        # A document that is not indexed any more may have none.
        ("delete from passages; update documents set state = 'failed'", r"passages = 0; 4 less the 0 that went"),
    ],
    ids=["all of them", "one of each", "and what was told", "and the state"],
)
def test_passages_that_are_gone_while_their_documents_stay_are_named(restored: Restored, lost: str, says: str) -> None:
    restored.indexed(PROSE, "Two.")
    restored.indexed("Three.", "Four.")
    counted = restored.counted()

    restored.does(lost)

    with pytest.raises(CheckError, match=says):
        contents.passages(restored.server, counted)


def test_what_was_deleted_or_read_anew_since_the_base_is_no_loss(restored: Restored) -> None:
    gone, stays = restored.indexed(PROSE, "Two."), restored.indexed("Three.", "Four.")
    counted = restored.counted()

    with restored.pool.begin() as connection:
        connection.execute(text("delete from documents where id = :id"), {"id": gone})
        changes.append(connection, "deleted", uuid.uuid4(), gone, 2)
        connection.execute(text("delete from passages where document_id = :id and ordinal = 1"), {"id": stays})
        changes.append(connection, "deleted", uuid.uuid4(), stays, 2)
        changes.append(connection, "indexed", uuid.uuid4(), stays, 1)

    assert contents.passages(restored.server, counted).startswith("1 of 1 indexed documents")


def test_a_table_of_somebody_elses_may_have_been_dropped_since_the_base_one_of_the_application_may_not(
    restored: Restored,
) -> None:
    restored.does("create table scratch (id int); alter table feedback owner to rag_owner")
    restored.does("insert into users (name, password_hash, role) values ('ann', '', 'reader') on conflict do nothing")
    counted = restored.counted()
    restored.does("drop table scratch")
    assert "scratch dropped since" in contents.tables(restored.server, counted)

    restored.does("alter table feedback rename to lost")
    try:
        with pytest.raises(CheckError, match="tables = without feedback; those of the manifest"):
            contents.tables(restored.server, counted)
        # The release that was deployed since knows what it took away.
        assert "feedback, scratch dropped since" in contents.tables(restored.server, counted | {"schema": "0001"})
    finally:
        restored.does("alter table lost rename to feedback")


def test_a_drill_works_in_the_schema_of_a_later_release_that_serves_this_one_and_in_no_other(
    restored: Restored,
) -> None:
    roles = [role for role in contents.ROLES if role != "rag_owner"]
    for role in roles:
        restored.does(f"create role {role}")
    counted = restored.counted()
    known = counted["schema"]
    assert contents.schema(restored.server, counted) == f"{known}, this release's"

    restored.does("update alembic_version set version_num = '9999'")
    try:
        with pytest.raises(CheckError, match="schema = 9999; one that this release knows"):
            contents.schema(restored.server, counted)
        restored.does(f"comment on table alembic_version is '9999 serves {known}'")
        assert contents.schema(restored.server, counted) == "9999 of a later release, in which this one works"
    finally:
        restored.does("update alembic_version set version_num = :known", known=known)


def asked(restored: Restored) -> list[str]:
    def work(connection: Connection) -> list[str]:
        return [one.sentence for one in golden.asked_for(connection)]

    with restored.pool.connect() as connection:
        return work(connection)


def test_where_no_passage_has_a_sentence_the_words_of_a_line_are_asked_for(restored: Restored) -> None:
    restored.indexed("pump | pressure | 4.5 bar\nvalve | open", "---")

    assert asked(restored) == ["pump | pressure | 4.5 bar"]

    restored.indexed(PROSE)
    assert asked(restored) == [PROSE]


def test_documents_without_a_word_to_ask_for_are_a_failure_and_a_site_without_documents_is_none(
    restored: Restored,
) -> None:
    assert asked(restored) == []
    restored.indexed("---", "| * |")

    with pytest.raises(CheckError, match="1 indexed documents = no passage with a word to ask for"):
        asked(restored)

    restored.does("delete from passages")
    with pytest.raises(CheckError, match="no passage with a word"):
        asked(restored)
