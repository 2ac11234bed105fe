"""In which embedding model this process searches, as the database says; a search keeps to one all along."""

import asyncio
import logging
import time

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.index.vectors import Vectors
from app.retrieve.nearest import Space
from app.settings import Settings
from app.store import models
from app.store.database import reading
from app.store.models import Kept, Stored

log = logging.getLogger(__name__)

# What a search has not told anew by then is asked for before the next one begins.
TRUSTED_SECONDS = 1.0


class Spaces:
    """The served model's vectors, here and in PostgreSQL."""

    def __init__(self, settings: Settings, replica: Engine) -> None:
        self._settings, self._replica = settings, replica
        self._vectors: dict[str, Vectors] = {}
        self._stored: Stored | None = None
        self._heard = 0.0

    async def now(self) -> Space:
        """The one to search in; whether it still was right at the end of the search, ``keeps`` tells."""
        known = self._stored
        if known is None or time.monotonic() - self._heard > TRUSTED_SECONDS:
            try:
                known = await asyncio.to_thread(reading, self._replica, models.stored, 0)
                self.hear(known)
            except SQLAlchemyError:
                # Without an answer the last one serves: the search itself asks again before it trusts what it found.
                if known is None:
                    raise
        return self._space(known)

    def hear(self, stored: Stored) -> None:
        """What a search learned about the models meanwhile."""
        if self._stored and stored.served != self._stored.served:
            log.info("searches = with %s from now on, with %s before", stored.served, self._stored.served)
        self._stored, self._heard = stored, time.monotonic()

    def keeps(self, stored: Stored, space: Space) -> bool:
        """Whether the space's vectors are still whole, so that what was found in them counts."""
        return stored.served is None or any(
            one.slot == space.index.slot and one.space == space.embedder.space for one in stored.kept
        )

    def foreign(self, stored: Stored) -> str | None:
        """A model that is in the way of searching by vectors, or None."""
        found = stored.foreign([one.space for one in self._settings.inference.embedders])
        return str(found) if found else None

    def vectors(self, kept: Kept | None) -> Vectors:
        """This host's index of the model."""
        slot = kept.slot if kept else ""
        if slot not in self._vectors:
            self._vectors[slot] = Vectors(self._settings.chroma, slot)
        return self._vectors[slot]

    def _space(self, stored: Stored) -> Space:
        inference, served = self._settings.inference, stored.served
        # Where the served one is foreign, nothing that is found counts.
        embedder = inference.embedder(served.space if served else None) or inference.embedders[0]
        return Space(self._replica, self.vectors(served), embedder)
