"""This host's Chroma finds what is nearest, held against every vector compared."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from app.index.vectors import LOOKED_AT, Vectors
from app.settings import Chroma
from tests.app.servers import chroma, free_port

PASSAGES, DIMENSION, TOPICS = 6000, 384, 120
QUESTIONS, NEAREST = 40, 50


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Vectors]:
    """An empty Chroma server."""
    port = free_port()
    server = chroma(tmp_path, port)
    server.start()
    yield Vectors(Chroma(port=port))
    server.stop()


def test_nearly_all_of_the_nearest_passages_are_found(own: Vectors) -> None:
    made = np.random.default_rng(1)
    topics = made.normal(size=(TOPICS, DIMENSION))

    def about_topics(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        rows = made.normal(size=(number, DIMENSION)) + 0.6 * topics[made.integers(0, TOPICS, number)]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    passages, questions = about_topics(PASSAGES), about_topics(QUESTIONS)
    true = np.argsort(-(questions @ passages.T), axis=1)[:, :NEAREST]

    async def share_found() -> float:
        collection, hits = uuid4(), 0
        for start in range(0, PASSAGES, 300):
            await own.upsert(collection, [(str(n), passages[n]) for n in range(start, start + 300)])
        for question, wanted in zip(questions, true, strict=True):
            found = {int(one.id) for one in await own.nearest(collection, question, NEAREST)}
            hits += len(found & set(wanted.tolist()))
        return hits / true.size

    assert asyncio.run(share_found()) > 0.99


def test_a_collection_of_an_earlier_release_is_looked_through_as_far_from_its_next_change_on(own: Vectors) -> None:
    async def story() -> object:
        collection, vector = uuid4(), np.ones(DIMENSION, np.float32)
        async with own._call() as client:
            await client.create_collection(
                f"c-{collection}", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
            )
        await own.upsert(collection, [("p", vector)])
        async with own._call() as client:
            made = await client.get_collection(f"c-{collection}", embedding_function=None)
        return made.configuration_json["hnsw"]["ef_search"]

    assert asyncio.run(story()) == LOOKED_AT
