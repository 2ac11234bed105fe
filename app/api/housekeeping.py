"""What grows old in PostgreSQL and nobody asks for any more is taken away, once an hour by any process."""

import asyncio

from sqlalchemy import Connection

from app.api.context import Context
from app.store import audit, guesses, rates, removal, sessions

PAUSE_SECONDS = 3600.0


async def keep_house(here: Context) -> None:
    """Queue the work every hour, until cancelled."""
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        here.later.write("housekeeping", lambda connection: tidy(connection, here.settings.audit_days))


def tidy(connection: Connection, audit_days: int) -> None:
    """Take away what has outlived its use."""
    audit.purge(connection, audit_days)
    sessions.forget(connection)
    guesses.forget(connection)
    rates.purge(connection)
    removal.go_on(connection)
