"""How much may be asked for in a minute, over all processes and hosts; without a primary each process counts."""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Literal
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import metrics
from app.api.problems import Problem
from app.settings import Rates as Most
from app.store import rates
from app.store.database import reading
from app.store.rates import Count

Kind = Literal["questions", "searches", "uploads", "sign-ins", "wrong keys"]

# A question must not wait for a primary: after that long the process's own count has to do.
DEADLINE_SECONDS = 0.2
# For so long nobody asks a primary that just was not there in time.
MISSED_SECONDS = 2.0
MOST_REMEMBERED = 10_000


class Rates:
    """Counts what each person does, and what comes from each address before it is a person's."""

    def __init__(self, primary: Engine, most: Most) -> None:
        # One statement is one round trip then.
        self._primary = primary.execution_options(isolation_level="AUTOCOMMIT")
        self._most: dict[Kind, int] = {
            "questions": most.questions_per_minute,
            "searches": most.searches_per_minute,
            "uploads": most.uploads_per_minute,
            "sign-ins": most.sign_ins_per_minute,
            "wrong keys": most.wrong_keys_per_minute,
        }
        self._threads = ThreadPoolExecutor(2, "rates")
        self._lock = threading.Lock()
        self._missed_until = 0.0
        self._here: OrderedDict[tuple[UUID, Kind], tuple[int, int]] = OrderedDict()

    async def take(self, who: UUID, kind: Kind) -> None:
        """Count one more; raise 429 beyond the limit."""
        most = self._most[kind]
        if not most:
            return
        count = self._counted_here(who, kind)
        if count.used <= most:
            # Whoever is beyond it by what this process alone has seen costs the primary nothing.
            count = await self._counted(who, kind) or count
        _refuse_beyond(most, count, kind)

    def note(self, who: UUID, kind: Kind) -> None:
        """Count one more without waiting for a primary."""
        if self._counted_here(who, kind).used <= self._most[kind] and time.monotonic() >= self._missed_until:
            self._threads.submit(self._note, who, kind)

    def refuse_beyond(self, who: UUID, kind: Kind) -> None:
        """Raise 429 when this process knows that the limit is reached; asks nobody."""
        minute, second = divmod(time.time(), 60)
        with self._lock:
            known, used = self._here.get((who, kind), (0, 0))
        if self._most[kind] and known == int(minute):
            _refuse_beyond(self._most[kind], Count(used + 1, 60 - second), kind)

    def _note(self, who: UUID, kind: Kind) -> None:
        try:
            count = self._count(who, kind)
        except SQLAlchemyError:
            self._missed_until = time.monotonic() + MISSED_SECONDS
            return
        with self._lock:
            # What came to other processes counts here too.
            minute, used = self._here.get((who, kind), (0, 0))
            self._here[who, kind] = (minute, max(used, count.used))

    async def _counted(self, who: UUID, kind: Kind) -> Count | None:
        """By the primary, if it is quick."""
        if time.monotonic() >= self._missed_until:
            counting = asyncio.get_running_loop().run_in_executor(self._threads, self._count, who, kind)
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    return await counting
            except (TimeoutError, SQLAlchemyError):
                self._missed_until = time.monotonic() + MISSED_SECONDS
        metrics.COUNTED_HERE.labels(kind).inc()
        return None

    def _count(self, who: UUID, kind: Kind) -> Count:
        # Once, and hung up on a primary that fell silent: nothing is lost with a count.
        return reading(self._primary, lambda connection: rates.count(connection, who, kind), 0)

    def _counted_here(self, who: UUID, kind: Kind) -> Count:
        minute, second = divmod(time.time(), 60)
        with self._lock:
            known, used = self._here.pop((who, kind), (0, 0))
            used = used + 1 if known == int(minute) else 1
            self._here[who, kind] = (int(minute), used)
            if len(self._here) > MOST_REMEMBERED:
                self._here.popitem(last=False)
        return Count(used, 60 - second)

    def close(self) -> None:
        """Take no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _refuse_beyond(most: int, count: Count, kind: Kind) -> None:
    if count.used > most:
        metrics.LIMITED.labels(kind).inc()
        seconds = max(1, math.ceil(count.seconds_left))
        raise Problem(
            429,
            f"{kind} = {count.used} in a minute; at most {most}",
            f"try again in {seconds} s",
            retry=True,
            seconds=seconds,
        )
