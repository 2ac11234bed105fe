"""What grows old in PostgreSQL and nobody asks for any more is taken away, once an hour by any process."""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection

from app.api.context import Context
from app.api.later import Later
from app.store import audit, guesses, removal, sessions

log = logging.getLogger(__name__)

PAUSE_SECONDS = 3600.0
# One transaction's worth: neither a replica nor whoever waits behind it in the line shall notice.
BATCH = 1000


async def keep_house(here: Context) -> None:
    """Queue the work every hour, until cancelled."""
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        tidy(here.later, here.settings.audit_days)


def tidy(later: Later, audit_days: int) -> None:
    """Queue what takes away all that has outlived its use, a batch in each transaction; other writes go in between.

    What breaks off is gone on with an hour later, or by another process.
    """
    steps: dict[str, Callable[[Connection], int]] = {
        "audit": lambda connection: audit.purge(connection, audit_days),
        "sessions": lambda connection: sessions.forget(connection, BATCH),
        "guesses": lambda connection: guesses.forget(connection, BATCH),
        "deleted collections": removal.go_on,
    }
    for name, step in steps.items():
        _queue(later, name, step)


def _queue(later: Later, name: str, step: Callable[[Connection], int]) -> None:
    def work(connection: Connection) -> None:
        gone = step(connection)
        if gone and not later.closing:
            log.info("housekeeping %s=%d", name, gone)
            # Before this batch is committed: whoever comes twice finds nothing, and that is the end.
            _queue(later, name, step)

    later.write("housekeeping", work)
