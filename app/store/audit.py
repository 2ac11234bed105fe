"""Who did what, and when: a table to which the program can only add, written in the transaction of the change itself.

Only ``purge`` takes entries away, and PostgreSQL lets it take none that is younger than thirty days.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

from sqlalchemy import Connection, text

# All but the time, which the program has no right to write.
WRITTEN = "id, actor, key, action, object, detail, request_id, address"

# With the name of who acts; in a detail never a password, a secret, or the text of a question or a document.
Detail = dict[str, Any]


@dataclass(frozen=True)
class Actor:
    """Who acts in a request; ``stamp`` is the request's own, from which its entries are known when it is repeated."""

    name: str
    request_id: str = ""
    address: str = ""
    key: str | None = None
    stamp: UUID = field(default_factory=uuid4)


@dataclass(frozen=True)
class Entry:
    id: UUID
    at: datetime
    actor: str
    key: str | None
    action: str
    object: str
    detail: Detail
    request_id: str
    address: str


def note(connection: Connection, actor: Actor, action: str, thing: str, detail: Detail | None = None) -> None:
    """Write that ``actor`` did ``action`` (``document.delete``) to ``thing`` (``documents/7d0c…``); once a request."""
    connection.execute(
        text(
            f"insert into audit ({WRITTEN}) values (:id, :actor, :key,"  # noqa: S608 - of our own words only
            " :action, :object, cast(:detail as jsonb), :request_id, :address) on conflict (id) do nothing"
        ),
        {
            "id": uuid5(actor.stamp, f"{action}\n{thing}"),
            "actor": actor.name,
            "key": actor.key,
            "action": action,
            "object": thing,
            "detail": json.dumps(detail or {}),
            "request_id": actor.request_id,
            "address": actor.address,
        },
    )


def listed(
    connection: Connection, limit: int, actor: str, action: str, after: tuple[datetime, UUID] | None
) -> list[Entry]:
    """Entries, newest first, behind ``after``; empty ``actor`` is anybody's, ``action`` the beginning of one."""
    at, entry_id = after or (None, None)
    statement = text(
        "select id, at, actor, key, action, object, detail, request_id, address from audit"
        " where starts_with(action, :action) and (:actor = '' or actor = :actor)"
        " and (cast(:at as timestamptz) is null or (at, id) < (cast(:at as timestamptz), cast(:id as uuid)))"
        " order by at desc, id desc limit :limit"
    )
    parameters = {"actor": actor, "action": action, "at": at, "id": entry_id, "limit": limit}
    return [Entry(**row._mapping) for row in connection.execute(statement, parameters)]


def purge(connection: Connection, days: int) -> int:
    """Take some away of what is older than so many days, at least thirty; how many entries it were."""
    statement = text("select purge_audit(make_interval(days => :days))")
    return int(connection.execute(statement, {"days": days}).scalar_one())
