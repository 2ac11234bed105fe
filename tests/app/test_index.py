"""Each host's index: following the change feed, and the Chroma server beneath it."""

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from app.index import follower
from app.index.follower import Follower, follow
from app.index.vectors import Progress, Vectors
from app.settings import Chroma
from app.store.changes import Position
from tests.app.ollama_standin import DIMENSION
from tests.app.servers import chroma, free_port
from tests.app.site import KEPT, SETTINGS, Person, Site


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Vectors]:
    """A Chroma server that rag-index knows nothing of, empty."""
    port = free_port()
    server = chroma(tmp_path, port)
    server.start()
    yield Vectors(Chroma(port=port))
    server.stop()


@pytest.fixture
def late(site: Site) -> Iterator[str]:
    """The name of a database with our schema that has replayed nothing yet."""
    name = f"late{uuid4().hex}"
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name} owner rag_owner"))
    configuration = site.folder / f"{name}.toml"
    configuration.write_text(
        (site.folder / "rag.toml").read_text().replace("[database]", f'[database]\nname = "{name}"')
    )
    assert site.run("app.store.migrate", RAG_CONFIG=str(configuration)).returncode == 0
    return name


def test_a_replica_without_the_passages_of_a_change_costs_no_vectors(
    site: Site, admin: Person, collection: str, own: Vectors, late: str
) -> None:
    before = last_change(site)
    document = admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))
    # The first two connections end at a replica that has the document, the others at one that does not yet.
    replicas = replica(site, chain(["rag"] * 2, repeat(late)))

    async def story() -> tuple[int, Progress | None, int, list[str]]:
        await own.keep(Progress(before, filled=True))
        applied = await follow(Follower(SETTINGS, replicas, site.database, own, KEPT))
        progress = await own.progress()
        then = await follow(Follower(SETTINGS, site.database, site.database, own, KEPT))
        return applied, progress, then, await nearest(own, collection_of(site, document), DIMENSION, 9)

    assert asyncio.run(story()) == (0, Progress(before, filled=True), 1, [f"{document['id']}:0"])


def test_a_large_document_is_copied_whole(site: Site, admin: Person, collection: str, own: Vectors) -> None:
    before = last_change(site)
    words = " ".join(f"Crane number {number} lifts {number} tonnes, no less and no more." for number in range(900))
    document = admin.settled(admin.upload(collection, "cranes.txt", words.encode()))

    async def story() -> list[str]:
        await own.keep(Progress(before, filled=True))
        await follow(Follower(SETTINGS, site.database, site.database, own, KEPT))
        return await nearest(own, collection_of(site, document), DIMENSION, 9000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follower, "VECTORS_AT_ONCE", 7)
        found = asyncio.run(story())
    assert set(found) == {f"{document['id']}:{number}" for number in range(document["passages"])}


def test_more_collections_than_chroma_lists_at_once_by_default_are_all_there(own: Vectors) -> None:
    ids = [uuid4() for _ in range(150)]

    async def story() -> list[object]:
        for collection_id in ids:
            await own.upsert(collection_id, [("a:0", np.ones(3))])
        await own.keep(Progress(Position(1, 2, "token"), filled=True))
        kept, found = await own.progress(), [await nearest(own, collection_id, 3, 1) for collection_id in ids]
        await own.empty()
        left = [await nearest(own, collection_id, 3, 1) for collection_id in ids]
        return [kept, found, left, await own.progress()]

    assert asyncio.run(story()) == [Progress(Position(1, 2, "token"), filled=True), [["a:0"]] * 150, [[]] * 150, None]


async def nearest(vectors: Vectors, collection_id: UUID, dimension: int, limit: int) -> list[str]:
    return [near.id for near in await vectors.nearest(collection_id, np.ones(dimension), limit)]


def replica(site: Site, databases: Iterator[str]) -> Engine:
    """Each connection goes to the next of these databases."""

    def connect() -> Any:
        return psycopg2.connect(host="127.0.0.1", port=site.postgresql.port, user="rag", dbname=next(databases))

    return create_engine("postgresql+psycopg2://", creator=connect, poolclass=NullPool)


def last_change(site: Site) -> Position:
    with site.database.connect() as connection:
        row = connection.execute(
            text("select xid::text::bigint as xid, seq, token from changes order by changes.xid desc, seq desc limit 1")
        ).one_or_none()
    return Position(row.xid, row.seq, str(row.token)) if row else Position()


def collection_of(site: Site, document: dict[str, Any]) -> UUID:
    with site.database.connect() as connection:
        found = connection.execute(text("select collection_id from documents where id = :id"), document).scalar_one()
    return UUID(str(found))
