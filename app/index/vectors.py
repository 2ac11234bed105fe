"""This host's Chroma: for each embedding model one collection per collection of ours, and a small one for the position.

Chroma's own client waits without end, so every call here stands under a deadline.
"""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from app.settings import Chroma
from app.store.changes import Position
from app.store.passages import Vector

if TYPE_CHECKING:
    from chromadb.api import AsyncClientAPI
    from chromadb.api.models.AsyncCollection import AsyncCollection

POSITION = "rag-position"
# Candidates that Chroma looks at for a question. Of the true 50 nearest among 15,000 vectors of 384 it finds 0.939 with
# its own 100, 0.978 with 300 and 0.992 with 500, in the same time.
LOOKED_AT = 500
START = Position()
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SLOT = "[0-9a-f]{8}"
# Of every model, as opposed to what another program may keep in the same server.
_ANY = re.compile(rf"(?:c-|m({_SLOT})-){_UUID}|{POSITION}(?:-({_SLOT}))?")


class IndexUnavailableError(Exception):
    """The local Chroma did not answer in time, or not with what was asked."""


@dataclass(frozen=True)
class Progress:
    """How far the index has come; until it is filled for the first time, a search would miss documents."""

    position: Position = START
    filled: bool = False


@dataclass(frozen=True)
class Near:
    """A passage's id and its cosine distance: 0 in the same direction, 1 unrelated, 2 opposite."""

    id: str
    distance: float


class Vectors:
    """Nearest passages by the vectors of one model, whose slot is in the names; written to by rag-index alone."""

    def __init__(self, settings: Chroma, slot: str = "") -> None:
        self._settings = settings
        self.slot = slot
        self._prefix = f"m{slot}-" if slot else "c-"
        self._position = f"{POSITION}-{slot}" if slot else POSITION
        self._client: AsyncClientAPI | None = None
        self._collections: dict[UUID, AsyncCollection] = {}

    async def nearest(self, collection_id: UUID, vector: Vector, limit: int) -> list[Near]:
        """The nearest passages, nearest first; none where the collection holds none yet."""
        try:
            return await self._nearest(collection_id, vector, limit)
        except IndexUnavailableError:
            # The folder may have been deleted and refilled: the same name is another collection then.
            if self._collections.pop(collection_id, None) is None:
                raise
        return await self._nearest(collection_id, vector, limit)

    async def upsert(self, collection_id: UUID, rows: Sequence[tuple[str, Vector]]) -> None:
        """Put the passages in, or in the place of those with their ids."""
        async with self._call() as client:
            collection = await client.get_or_create_collection(
                self._name(collection_id),
                embedding_function=None,
                configuration={"hnsw": {"space": "cosine", "ef_search": LOOKED_AT}},
            )
            # One of an earlier release; Chroma looks so far from its next start on.
            if collection.configuration_json.get("hnsw", {}).get("ef_search") != LOOKED_AT:
                await collection.modify(configuration={"hnsw": {"ef_search": LOOKED_AT}})
            await collection.upsert(
                ids=[identifier for identifier, _ in rows], embeddings=_as_chroma([vector for _, vector in rows])
            )

    async def remove(self, collection_id: UUID, ids: Sequence[str]) -> None:
        """Take the passages out; those not there are no error."""
        async with self._call() as client:
            collection = await _found(client, self._name(collection_id))
            if collection:
                await collection.delete(ids=list(ids))

    async def collections(self) -> set[UUID]:
        """Ids of the collections that there are here."""
        async with self._call() as client:
            names = [collection.name for collection in await client.list_collections()]
        ours = re.compile(f"{self._prefix}({_UUID})")
        return {UUID(found.group(1)) for found in map(ours.fullmatch, names) if found}

    async def slots(self) -> set[str]:
        """The slots of which there is anything here."""
        async with self._call() as client:
            names = [collection.name for collection in await client.list_collections()]
        return {found.group(1) or found.group(2) or "" for found in map(_ANY.fullmatch, names) if found}

    async def ids(self, collection_id: UUID, limit: int, offset: int) -> list[str]:
        """Some ids of the collection's passages, in an order that stays while nothing is written."""
        async with self._call() as client:
            collection = await _found(client, self._name(collection_id))
            return list((await collection.get(limit=limit, offset=offset, include=[]))["ids"]) if collection else []

    async def present(self, collection_id: UUID, ids: Sequence[str]) -> set[str]:
        """Those of the passages that are in."""
        async with self._call() as client:
            collection = await _found(client, self._name(collection_id)) if ids else None
            return set((await collection.get(ids=list(ids), include=[]))["ids"]) if collection else set()

    async def drop(self, collection_id: UUID) -> int:
        """Delete the collection; how many passages it held."""
        async with self._call() as client:
            collection = await _found(client, self._name(collection_id))
            held = await collection.count() if collection else 0
            if collection:
                await client.delete_collection(collection.name)
        self._collections.pop(collection_id, None)
        return held

    async def progress(self) -> Progress | None:
        """How far the index has come; None when it is empty."""
        async with self._call() as client:
            collection = await _found(client, self._position)
            if collection is None:
                return None
            kept = collection.metadata or {}
        position = Position(int(kept["xid"]), int(kept["seq"]), str(kept["token"]))
        return Progress(position, bool(kept["filled"]))

    async def keep(self, progress: Progress) -> None:
        """Remember the progress beside the vectors, so that both are lost together or not at all."""
        position = progress.position
        # As text: a transaction's id may be larger than what JSON numbers keep.
        metadata = {
            "xid": str(position.xid),
            "seq": str(position.seq),
            "token": position.token,
            "filled": progress.filled,
        }
        async with self._call() as client:
            collection = await client.get_or_create_collection(
                self._position, embedding_function=None, metadata=metadata
            )
            await collection.modify(metadata=metadata)

    async def empty(self) -> None:
        """Delete all of this slot, the position first."""
        async with self._call() as client:
            names = [collection.name for collection in await client.list_collections()]
        ours = [name for name in names if name == self._position or name.startswith(self._prefix)]
        for name in sorted(ours, key=lambda name: name != self._position):
            # A deadline for each: of thousands of collections all together may take longer.
            async with self._call() as client:
                await client.delete_collection(name)
        self._collections.clear()

    def _name(self, collection_id: UUID) -> str:
        return f"{self._prefix}{collection_id}"

    async def _nearest(self, collection_id: UUID, vector: Vector, limit: int) -> list[Near]:
        async with self._call() as client:
            collection = self._collections.get(collection_id)
            if collection is None:
                collection = await _found(client, self._name(collection_id))
                if collection is None:
                    return []
                self._collections[collection_id] = collection
            found = await collection.query(
                query_embeddings=_as_chroma([vector]), n_results=limit, include=["distances"]
            )
        distances = (found["distances"] or [[]])[0]
        return [Near(one, distance) for one, distance in zip(found["ids"][0], distances, strict=True)]

    @asynccontextmanager
    async def _call(self) -> AsyncIterator["AsyncClientAPI"]:
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                if self._client is None:
                    self._client = await _connect(self._settings)
                yield self._client
        except (TimeoutError, OSError, ValueError, httpx.HTTPError, _chroma_error()) as error:
            address = f"{self._settings.host}:{self._settings.port}"
            raise IndexUnavailableError(
                f"chroma = {address}; a server that answers ({type(error).__name__}); systemctl status rag-chroma"
            ) from error


async def _connect(settings: Chroma) -> "AsyncClientAPI":
    # The library takes a second to load, and nothing before the first search needs it.
    chromadb = await asyncio.to_thread(importlib.import_module, "chromadb")
    client: AsyncClientAPI = await chromadb.AsyncHttpClient(
        host=settings.host, port=settings.port, settings=chromadb.Settings(anonymized_telemetry=False)
    )
    return client


def _chroma_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("chromadb.errors").ChromaError
    return error


def _not_found() -> type[Exception]:
    error: type[Exception] = importlib.import_module("chromadb.errors").NotFoundError
    return error


def _as_chroma(vectors: list[Vector]) -> Any:
    # Chroma's annotation asks for an array of integers and floats at once, which no array is.
    return vectors


async def _found(client: "AsyncClientAPI", name: str) -> "AsyncCollection | None":
    try:
        return await client.get_collection(name, embedding_function=None)
    except _not_found():
        return None
