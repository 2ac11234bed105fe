"""Waiting until every server that answers questions shows what was written: who is shut out is out everywhere."""

import time

from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from app.settings import Database
from app.store.database import connecting_to, reading

# A replica that is further behind than this is not waited for: its own users will notice the end when it has caught up.
LONGEST_SECONDS = 2.0
PAUSE_SECONDS = 0.01

_HERE = text("select pg_current_wal_flush_lsn()")
_THERE = text("select not pg_is_in_recovery() or pg_last_wal_replay_lsn() >= cast(:position as pg_lsn)")


def wait_for_replay(primary: Engine, settings: Database, seconds: float = LONGEST_SECONDS) -> bool:
    """Return once all that is committed now is shown by every server that answers; False when that takes too long."""
    if len(settings.hosts) == 1:
        return True
    deadline = time.monotonic() + seconds
    try:
        position = reading(primary, lambda connection: connection.execute(_HERE).scalar_one(), 0)
    except DBAPIError:
        return False
    return all(_shows(settings, host, position, deadline) for host in settings.hosts)


def _shows(settings: Database, host: str, position: str, deadline: float) -> bool:
    pool = create_engine("postgresql+psycopg2://", creator=connecting_to(settings, host), poolclass=NullPool)
    try:
        with pool.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.execute(_THERE, {"position": position}).scalar_one():
                if time.monotonic() > deadline:
                    return False
                time.sleep(PAUSE_SECONDS)
    except DBAPIError:
        # Who does not answer shows nothing to anybody.
        return True
    return True
