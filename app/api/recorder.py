"""Writing down questions after they were answered: bounded in number and time, and never in an answer's way."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from app import metrics
from app.store import audit, questions
from app.store.audit import Actor
from app.store.database import passing, writing
from app.store.questions import Question

log = logging.getLogger(__name__)

MOST_WAITING = 1000
LONGEST_WAIT_SECONDS = 600.0
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Record:
    """A question with who asked it of which collection, which the audit keeps without its text."""

    question: Question
    by: Actor
    collection: str


class Recorder:
    """A queue of records that waits for a primary."""

    def __init__(self, primary: Engine) -> None:
        self._primary = primary
        self._queue: asyncio.Queue[tuple[float, Record]] = asyncio.Queue(MOST_WAITING)
        # A thread of its own: searches shall not lack one that waits here for a primary.
        self._thread = ThreadPoolExecutor(1, "record")

    def record(self, question: Question, by: Actor, collection: str) -> None:
        """Queue the record; when the queue is full the record is lost and counted."""
        try:
            self._queue.put_nowait((time.monotonic() + LONGEST_WAIT_SECONDS, Record(question, by, collection)))
        except asyncio.QueueFull:
            metrics.UNRECORDED.inc()

    async def run(self) -> None:
        """Write records until cancelled."""
        while True:
            deadline, record = await self._queue.get()
            while not await self._written(record):
                if time.monotonic() > deadline:
                    metrics.UNRECORDED.inc()
                    break
                await asyncio.sleep(PAUSE_SECONDS)

    async def _written(self, record: Record) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, record)
        except Exception as error:
            if passing(error):
                log.warning("question=%s not recorded yet: %s", record.question.id, str(error).splitlines()[0])
                return False
            # One that can never be written must not keep those behind it from being written.
            log.exception("question=%s cannot be recorded", record.question.id)
            metrics.UNRECORDED.inc()
        return True

    def _write(self, record: Record) -> None:
        question = record.question
        detail = {
            "collection": record.collection,
            "supported": question.supported,
            "model": question.model,
            "seconds": round(question.seconds, 3),
        }

        def work(connection: Connection) -> None:
            questions.record(connection, question)
            audit.note(connection, record.by, "question.ask", f"questions/{question.id}", detail)

        # Tried once: the round in `run` is the repetition, and what it finds done must still have reached a replica.
        writing(self._primary, work, 0, again=True)

    def close(self) -> None:
        """Take no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def drain(self, seconds: float) -> None:
        """Write what waits, as far as it goes in this time; the rest is lost and counted."""
        try:
            async with asyncio.timeout(seconds):
                while not self._queue.empty():
                    _, record = self._queue.get_nowait()
                    if not await self._written(record):
                        metrics.UNRECORDED.inc()
        except TimeoutError:
            metrics.UNRECORDED.inc(self._queue.qsize())
