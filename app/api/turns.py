"""Whose password is checked next: a check costs 64 MiB and a core for a moment, so few run at a time.

Whoever floods the line from one address takes one place of it and waits for their own turns; the others' stay free.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from app import metrics
from app.api.problems import Problem

WAIT_SECONDS = 5.0
PLACES = 2


@dataclass
class Line:
    """Those who come from one address."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    people: int = 0


@dataclass
class Turns:
    """The places of one process, and the lines before them."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLACES))
    lines: dict[str, Line] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def turn(self, network: str) -> AsyncIterator[None]:
        """One place, held; raise 429 when none came free in time."""
        line = self.lines.setdefault(network, Line())
        line.people += 1
        async with contextlib.AsyncExitStack() as held:
            held.callback(self._leave, network, line)
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await held.enter_async_context(line.lock)
                    await held.enter_async_context(self.places)
            except TimeoutError:
                metrics.SIGN_INS.labels("shed").inc()
                raise Problem(429, "sign-ins = too many at once; fewer", "try again in a moment", retry=True) from None
            yield

    def _leave(self, network: str, line: Line) -> None:
        line.people -= 1
        if not line.people:
            del self.lines[network]
