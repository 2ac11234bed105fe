"""One follower for each embedding model whose vectors this host keeps, the served one's first."""

import asyncio
import contextlib
import logging
import time

from sqlalchemy import Connection, Engine

from app import metrics
from app.index.follower import Follower
from app.index.vectors import Vectors
from app.settings import Settings
from app.store import models
from app.store.database import reading
from app.store.models import Kept

log = logging.getLogger(__name__)


class Indexes:
    """The followers, as a replica says which models there are."""

    def __init__(self, settings: Settings, replica: Engine, primary: Engine) -> None:
        self._settings, self._replica, self._primary = settings, replica, primary
        self._followers: dict[Kept, Follower] = {}
        # Slots that nobody needs any more, and since when that is so.
        self._unneeded: dict[str, float] = {}

    async def now(self) -> list[Follower]:
        """Those of the models that there are."""
        kept = await self._kept(self._replica)
        for one in kept:
            if one not in self._followers:
                vectors = Vectors(self._settings.chroma, one.slot)
                self._followers[one] = Follower(self._settings, self._replica, self._primary, vectors, one)
        return [self._followers[one] for one in kept]

    async def forget(self) -> None:
        """Delete what belongs to no model any more, once no search can be under way in it."""
        kept = {one.slot for one in await self._kept(self._replica)}
        there = await Vectors(self._settings.chroma).slots()
        now = time.monotonic()
        self._unneeded = {slot: self._unneeded.get(slot, now) for slot in there - kept}
        for slot, since in self._unneeded.items():
            if now - since < self._settings.index.forget_seconds:
                continue
            # A replica may be far behind; what it does not know of yet must stay.
            if slot not in {one.slot for one in await self._kept(self._primary)}:
                log.info("index slot = %s; of no embedding model any more, deleted", slot or "first")
                await Vectors(self._settings.chroma, slot).empty()
        for one in [one for one in self._followers if one.slot not in kept]:
            del self._followers[one]
            for figure in (metrics.INDEX_MODEL_LAG, metrics.INDEX_MODEL_FILLED):
                with contextlib.suppress(KeyError):
                    figure.remove(one.model)

    async def _kept(self, pool: Engine) -> tuple[Kept, ...]:
        def work(connection: Connection) -> tuple[Kept, ...]:
            return models.stored(connection).kept

        first = self._settings.inference.embedders[0]
        return await asyncio.to_thread(reading, pool, work) or (Kept(first.model, first.dimension),)
