"""How often somebody has done something in this minute: counted on the primary, for all hosts together.

The table is in no write-ahead log: counting waits for no replica, and after a failover everybody begins at nothing.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

# Who writes to such a table alone waits for no disk anyway; this says so to every version of PostgreSQL.
_COUNT = """
with quick as materialized (select set_config('synchronous_commit', 'off', true) as set)
insert into rates as held (user_id, kind, began, used)
select :user, :kind, date_trunc('minute', statement_timestamp()), 1 from quick where quick.set is not null
on conflict (user_id, kind) do update set
    used = case when excluded.began > held.began then 1 else held.used + 1 end,
    began = greatest(held.began, excluded.began)
returning used, extract(epoch from began + interval '1 minute' - statement_timestamp()) as seconds_left
"""


@dataclass(frozen=True)
class Count:
    """The how manieth in its minute, and how long that minute still is."""

    used: int
    seconds_left: float


def count(connection: Connection, user_id: UUID, kind: str) -> Count:
    """One more of this kind by this user."""
    row = connection.execute(text(_COUNT), {"user": user_id, "kind": kind}).one()
    return Count(row.used, float(row.seconds_left))


def purge(connection: Connection) -> None:
    """Forget everybody's past minutes."""
    connection.execute(text("delete from rates where began < now() - interval '1 hour'"))
