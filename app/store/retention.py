"""Throwing away what a site keeps no longer: questions with answers and feedback, and conversations left empty."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.store import rates

# Any constant will do, as long as every release uses the same one.
PURGE_LOCK = 7_291_002
# One transaction's worth: a replica shall not fall behind for it.
BATCH = 1000

_OLD_QUESTIONS = """
delete from questions where id in (
    select id from questions where asked_at < now() - make_interval(days => :days) order by asked_at limit :batch
)
"""
# What was deleted by its owner is remembered only until no turn of it can be on its way any more.
_EMPTY_CONVERSATIONS = """
delete from conversations where id in (
    select id from conversations v where (v.deleted and v.changed_at < now() - interval '1 day')
        or (:days > 0 and v.changed_at < now() - make_interval(days => :days)
            and not exists (select from turns t where t.conversation_id = v.id))
    limit :batch
)
"""


@dataclass(frozen=True)
class Purged:
    """What one batch took away."""

    questions: int
    conversations: int


def purge(connection: Connection, days: int) -> Purged:
    """Throw a batch away; how much was in it, nothing also while another worker is at it. 0 days keep them all."""
    lock = text("select pg_try_advisory_xact_lock(:key)")
    if not connection.execute(lock, {"key": PURGE_LOCK}).scalar_one():
        return Purged(0, 0)
    gone = connection.execute(text(_OLD_QUESTIONS), {"days": days, "batch": BATCH}).rowcount if days else 0
    empty = connection.execute(text(_EMPTY_CONVERSATIONS), {"days": days, "batch": BATCH}).rowcount
    rates.purge(connection)
    return Purged(gone, empty)
