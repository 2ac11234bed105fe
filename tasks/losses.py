"""What a recovery in place takes away: done after its moment, as production itself tells."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from inventories.settings import Machine, Site
from tasks import moments
from tasks.last_backup import PSQL
from tasks.patroni import look, of_anybody
from tasks.ssh import AskError, ask

LOSS = """
select json_build_object(
  'now', clock_timestamp(),
  'newest', (select max(at) from audit),
  'actions', coalesce((select json_object_agg(action, count) from (select action, count(*) from audit
    where at > :moment group by action order by 2 desc) counted), '{}'::json),
  'documents', coalesce((select json_agg(name) from (select c.name || '/' || d.file_name as name from documents d
    join collections c on c.id = d.collection_id where d.created_at > :moment order by d.created_at desc limit 5) named
    ), '[]'::json))
"""


def lost(site: Site, to: datetime | None) -> list[str]:
    """What was done after the moment and will not be there, in words; production is asked."""
    moment = f"'{to.astimezone(UTC).isoformat()}'::timestamptz" if to else "'infinity'::timestamptz"
    statement = LOSS.replace(":moment", moment)

    def asked(machine: Machine) -> Any:
        return json.loads(ask(site, machine, PSQL, statement, what="count what will be lost"))

    try:
        told = of_anybody(site, asked, look(site).leading)
    except AskError as silent:
        return [f"production does not answer, so nobody can count what it holds that the backup lacks; {silent}"]
    return said_of(told, to)


def said_of(told: Mapping[str, Any], to: datetime | None) -> list[str]:
    """The same from production's own answer."""
    if to is None:
        return ["nothing that reached the backup host is lost; what production holds beyond that is"]
    if not told["actions"]:
        return [f"nothing was written down after {moments.shown(to)}"]
    names = ", ".join(told["documents"])
    counted = ", ".join(f"{count} × {action}" for action, count in told["actions"].items())
    return [
        f"done after {moments.shown(to)} and lost: {counted}",
        *([f"documents uploaded since then, the newest: {names}"] if names else []),
    ]
