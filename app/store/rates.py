"""How often somebody has done something in this minute or hour: counted on the primary, for all hosts together.

The table is in no write-ahead log: counting waits for no replica, and after a failover everybody begins at nothing.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import Connection, text

# Who writes to such a table alone waits for no disk anyway; this says so to every version of PostgreSQL.
_ALONE = "set_config('synchronous_commit', 'off', true)"
_COUNT = """
with before as materialized (select {before} as done)
insert into rates as held (user_id, kind, began, used)
select :who, :kind, date_trunc(:span, statement_timestamp()), 1 from before where before.done is not null
on conflict (user_id, kind) do update set
    used = case when excluded.began > held.began then 1 else held.used + 1 end,
    began = greatest(held.began, excluded.began)
returning used, extract(epoch from began + cast('1 ' || :span as interval) - statement_timestamp()) as seconds_left
"""


@dataclass(frozen=True)
class Count:
    """The how manieth in its minute, and how long that minute still is."""

    used: int
    seconds_left: float


def place(network: str) -> UUID:
    """What is counted for somebody who is nobody yet: where they come from."""
    return uuid5(NAMESPACE_URL, f"address\n{network}")


def count(connection: Connection, who: UUID, kind: str) -> Count:
    """One more of this kind in this minute, in a transaction of its own."""
    return _counted(connection, who, kind, "minute", _ALONE)


def count_in_hour(connection: Connection, who: UUID, kind: str) -> Count:
    """One more of this kind in this hour, beside other writes of the transaction."""
    return _counted(connection, who, kind, "hour", "true")


def _counted(connection: Connection, who: UUID, kind: str, span: Literal["minute", "hour"], before: str) -> Count:
    parameters = {"who": who, "kind": kind, "span": span}
    row = connection.execute(text(_COUNT.format(before=before)), parameters).one()
    return Count(row.used, float(row.seconds_left))


def purge(connection: Connection) -> None:
    """Forget everybody's past minutes and hours."""
    connection.execute(text("delete from rates where began < now() - interval '2 hours'"))
