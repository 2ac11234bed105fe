"""Telling the primary how far this host's index has come, so that people see where a document can be found."""

import asyncio
import logging
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.index.follower import Follower
from app.index.vectors import Progress
from app.settings_of_models import Inference
from app.store import positions
from app.store.database import writing

log = logging.getLogger(__name__)

Told = dict[str, Progress]

# A position that moved is told after so long at the earliest, one that did not as a sign of life.
MOVED_SECONDS = 2.0
STILL_SECONDS = 60.0
# Between two tries without a primary.
PAUSE_SECONDS = 10.0


class Reporter:
    """Tells beside the work and never holds it up; without a primary nothing is told."""

    def __init__(self, primary: Engine, host: str, inference: Inference) -> None:
        self._primary, self._host, self._inference = primary, host, inference
        self._told: Told = {}
        self._lacking: set[str] = set()
        self._look_at, self._tell_at = 0.0, 0.0
        self._telling: asyncio.Task[None] | None = None

    async def tell(self, followers: Sequence[Follower]) -> None:
        """Tell how far each model's vectors are, the served one's first, if it is time to."""
        if time.monotonic() < self._look_at or (self._telling and not self._telling.done()):
            return
        self._look_at = time.monotonic() + MOVED_SECONDS
        progress = {one.kept.slot: await one.vectors.progress() for one in followers}
        known = {slot: one for slot, one in progress.items() if one}
        # A host that could not embed a question with a model says so, however whole its index is.
        self._lacking = {one.kept.slot for one in followers if self._inference.embedder(one.kept.space) is None}
        if known and (known != self._told or time.monotonic() >= self._tell_at):
            self._telling = asyncio.create_task(self._tell(followers[0].kept.slot, known))

    async def _tell(self, served: str, known: Told) -> None:
        def work(connection: Connection) -> None:
            if served in known:
                positions.tell(connection, self._host, known[served].position)
            for slot, progress in known.items():
                at = positions.WITHOUT_MODEL if slot in self._lacking else progress.position
                positions.tell_slot(connection, self._host, slot, at, filled=progress.filled)

        try:
            await asyncio.to_thread(writing, self._primary, work, 0)
        except SQLAlchemyError as error:
            log.warning("position = not told; a primary that accepts us (%s)", str(error).splitlines()[0])
            self._look_at = time.monotonic() + PAUSE_SECONDS
            return
        self._told, self._tell_at = known, time.monotonic() + STILL_SECONDS
