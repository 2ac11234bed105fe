"""Writing from the API: it waits for a primary in a line of its own, so that questions never wait behind it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import Engine

from app.api.problems import Problem
from app.store.database import Result, Work, writing

# Whoever comes while so many wait is told at once to come again.
MOST_WAITING = 100


class Writers:
    """A few threads that write, and a bounded line of those who wait for one of them."""

    def __init__(self, primary: Engine, threads: int, seconds: float) -> None:
        self._primary = primary
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(threads, "write")
        self._turn = asyncio.Semaphore(threads)
        self._present = 0
        self._alone: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def write(self, work: Work[Result], alone: UUID | None = None) -> Result:
        """Run ``work`` in one transaction, as ``writing`` does, and wait no longer than that for a turn.

        Of works that are ``alone`` for the same person one takes a thread at a time: they wait for each other anyway.
        """
        if alone is None:
            return await self._write(work)
        lock = self._alone.setdefault(alone, asyncio.Lock())
        try:
            async with asyncio.timeout(self._seconds):
                await lock.acquire()
        except TimeoutError:
            raise _no_primary("fewer writes of yours at a time") from None
        try:
            return await self._write(work)
        finally:
            lock.release()

    async def _write(self, work: Work[Result]) -> Result:
        if self._present >= MOST_WAITING:
            raise _no_primary("fewer writes at a time")
        self._present += 1
        deadline = time.monotonic() + self._seconds
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._turn.acquire()
            except TimeoutError:
                raise _no_primary("a primary that accepts it") from None
            try:
                left = deadline - time.monotonic()
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: writing(self._primary, work, left)
                )
            finally:
                self._turn.release()
        finally:
            self._present -= 1

    def close(self) -> None:
        """Take no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _no_primary(needed: str) -> Problem:
    help_ = "try again in a moment; GET /health/ready names what is not ready"
    return Problem(503, f"database = no server for this request; {needed}", help_, retry=True)
