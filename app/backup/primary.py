"""The primary as the role rag_backup sees it: its slot, how far the receiver is, and the canaries."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg2

from app.backup.canaries import Canary
from app.backup.settings import Settings
from app.backup.spool import position
from app.settings import credential

PROGRAM = "rag-wal"
# Whoever asks goes on with something else when a primary hangs.
STATEMENT_MS = 5000
# A commit whose wait for a replica was cut short looks like success, and a crash now would undo it.
UNREPLICATED = "might not have been replicated"

SLOT = """
select wal_status, active, (select system_identifier from pg_control_system()),
    pg_walfile_name(pg_current_wal_flush_lsn())
from pg_replication_slots where slot_name = %s
"""
# One that lost its place never gets it back, and keeps its name: it is made anew.
ANEW = "select pg_drop_replication_slot(%(slot)s); select pg_create_physical_replication_slot(%(slot)s, true)"
# The view of the senders shows itself to pg_read_all_stats alone; a slot in use stands where its receiver flushed.
RECEIVER = """
select restart_lsn::text, greatest(0, pg_current_wal_flush_lsn() - restart_lsn)::bigint
from pg_replication_slots where slot_name = %s and active
"""
# A sequence jumps by 32 at each failover, and a missing number is what a drill takes for a lost row.
CANARY = "insert into canaries (number) select coalesce(max(number), 0) + 1 from canaries returning number, at"
# What restores find is at most as old as the repository's oldest base backup.
FORGET = "delete from canaries where at < now() - %s"


@dataclass(frozen=True)
class Slot:
    """The primary and the receiver's place on it."""

    lost: bool
    active: bool
    system: int
    segment: str
    """Name of the segment that is being written."""


@dataclass(frozen=True)
class Received:
    """How far the receiver is."""

    host: str
    flushed: int
    behind: int


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[Any]:
    """A session on the primary, in the application's database, each statement a transaction of its own."""
    cluster = settings.cluster
    session = psycopg2.connect(
        cluster.dsn(database=cluster.name, program=PROGRAM), password=credential("backup-password")
    )
    try:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute("select set_config('statement_timeout', %s, false)", (str(STATEMENT_MS),))
        yield session
    finally:
        session.close()


def slot_of(session: Any, settings: Settings) -> Slot | None:
    """The receiver's place; None: the cluster has not made one yet."""
    with session.cursor() as cursor:
        cursor.execute(SLOT, (settings.cluster.slot,))
        row = cursor.fetchone()
    return Slot(row[0] == "lost", row[1], row[2], row[3]) if row else None


def make_anew(session: Any, settings: Settings) -> None:
    """A slot that lost its place begins at the present."""
    with session.cursor() as cursor:
        cursor.execute(ANEW, {"slot": settings.cluster.slot})


def received(session: Any, settings: Settings) -> Received | None:
    """How far the receiver is; None: the primary has none."""
    with session.cursor() as cursor:
        cursor.execute(RECEIVER, (settings.cluster.slot,))
        row = cursor.fetchone()
    return Received(session.info.host, position(row[0]), row[1]) if row and row[0] else None


def sing(session: Any, keep: timedelta) -> Canary | None:
    """A new canary that a replica has too; None: it may be lost with the primary."""
    session.notices.clear()
    with session.cursor() as cursor:
        cursor.execute(CANARY)
        number, at = cursor.fetchone()
        cursor.execute(FORGET, (keep,))
    if any(UNREPLICATED in notice for notice in session.notices):
        return None
    return Canary(number, at)


def age(canary: Canary) -> float:
    """Seconds since the primary wrote it."""
    return max(0.0, time.time() - canary.at.timestamp())
