"""The site as it was at a moment: production's data exchanged for a restored copy's; everything of before is kept."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from inventories.network import API, RESTORED
from inventories.settings import Machine, Site
from tasks import last_backup, moments, restored, swap
from tasks.last_backup import PSQL
from tasks.lock import alone
from tasks.members import RefusedError, StoppedError
from tasks.patroni import Say, look, of_anybody, until
from tasks.restored import Copy
from tasks.ssh import AskError, ask

PROGRAM = ("rag-api", "rag-worker", "rag-index")
READY = 1800.0
"""Seconds for the program to come back; a big index takes longer to refill, and people are told so."""
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


@dataclass
class Phases:
    """Seconds of each phase of a recovery, and how a person is told."""

    say: Say
    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    last: float = 0.0

    def __post_init__(self) -> None:
        self.last = self.clock()

    def over(self, name: str) -> None:
        """The phase of that name ends now."""
        now = self.clock()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def table(self) -> str:
        """A line for each phase, and their sum."""
        rows = [*self.seconds.items(), ("together", sum(self.seconds.values()))]
        return "\n".join(f"{name:<28}{seconds:8.1f} s" for name, seconds in rows)


@dataclass(frozen=True)
class Order:
    """What a person asked for."""

    to: datetime | None
    before: bool = False
    """Back to the moment before the last recovery in place."""
    fresh: bool = False
    """The cluster was made a moment ago and holds nothing of anybody's."""


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


def recover(site: Site, order: Order, agreed: Callable[[list[str]], None], phases: Phases) -> None:
    """All of it; ``agreed`` gets the lines that say what will be lost, and raises RefusedError where nobody agrees."""
    say, keeper = phases.say, restored.keeper_of(site)
    again = f"make restore SITE={site.name} IN_PLACE=1 with the same TO"
    with alone(site, "restore in place", (*site.having("database"), keeper)):
        request, window, moment = _checked(site, keeper, order)
        there, silent = swap.reachable(site)
        if not there:
            raise RefusedError(f"database machines of {site.name} = all silent; one is needed; make deploy first")
        swap.room(site, there, window["bases"][-1]["bytes"] >> 20)
        if not order.fresh:
            agreed(_warning(site, order, moment, silent))
        phases.over("ask and check")
        # The newest moment is known only when nobody writes any more; an earlier one is brought back meanwhile.
        early = order.to is not None or order.before or order.fresh
        try:
            copy = restored.make(site, keeper, request, say) if early else None
            phases.over("restore")
            stop_program(site, say)
            if not order.fresh:
                last_backup.take(site, keeper, say)
            last_backup.rest(site, keeper)
            phases.over("stop, last backup")
            if copy is None:
                copy = restored.make(site, keeper, request, say)
                phases.over("restore")
            _exchange(site, keeper, there, copy, phases)
        except (AskError, StoppedError) as problem:
            undo = f"make restore SITE={site.name} TO=before IN_PLACE=1 goes back to the data of before"
            raise StoppedError(
                f"restore in place = stopped; {problem}; mend that, then make restored-end SITE={site.name} "
                f"and {again}; {undo}; the old data folders stay in any case"
            ) from None
        restored.end(site, keeper)
        for machine in silent:
            say(f"{machine.name} was silent; when it is back: make reinit SITE={site.name} MEMBER={machine.name}")


def _checked(site: Site, keeper: Machine, order: Order) -> tuple[dict[str, Any], dict[str, Any], datetime | None]:
    """The request for the copy, the window, and the moment; refuses before anything is touched."""
    if since := restored.busy(site, keeper):
        raise RefusedError(
            f"restore = refused; {keeper.name} has a restored copy since {since}; make restored-end SITE={site.name}"
        )
    record = last_backup.record_of(site, keeper)
    if not order.fresh and not last_backup.unfinished(record):
        # So that the window reaches to now; a backup host that cannot has an older one.
        ask(site, keeper, "systemctl start rag-backup || true", seconds=900)
    window = restored.window(site, keeper)
    if order.before and not record:
        raise RefusedError("TO = before; a recovery in place to undo is needed, there was none; TO=latest")
    if order.before or (order.to is None and last_backup.unfinished(record)):
        known = {"to": None, "base": record["base"], "log": record["log"]}
        return known, window, datetime.fromisoformat(record["at"])
    restored.refuse_outside(window, order.to)
    return {"to": order.to.isoformat() if order.to else None}, window, order.to


def _warning(site: Site, order: Order, moment: datetime | None, silent: list[Machine]) -> list[str]:
    names = ", ".join(machine.name for machine in silent)
    given_up = order.to is None and moment is not None and not order.before
    return [
        f"{site.name} goes back to {moments.shown(moment)}",
        # It may have been given up long ago, and the site have lived on.
        *(["a recovery did not come to its end; latest is the last backup that it took"] if given_up else []),
        *lost(site, moment),
        *([f"silent, and left out: {names}"] if names else []),
        "nobody can use the platform meanwhile; the old data folders are moved aside and stay",
    ]


def stop_program(site: Site, say: Say) -> None:
    """Nobody writes any more, and nobody asks."""
    script = f"systemctl stop {' '.join(PROGRAM)}"
    _each(site.having("app"), lambda one: ask(site, one, script, seconds=300))
    say("API, workers and followers are stopped: nobody writes any more")


def _exchange(site: Site, keeper: Machine, there: list[Machine], copy: Copy, phases: Phases) -> None:
    say, mark = phases.say, moments.stamp(datetime.now(UTC))
    shared = swap.shared_settings(site)
    swap.stop(site, there, say)
    swap.put_aside(site, there, mark, say)
    spool = f"{restored.FOLDER}/spool"
    aside = f"test ! -e {spool} || mv -T {spool} {restored.FOLDER}/aside/spool-{mark}; "
    # No base backup of before goes together with what is received from now on.
    known = f"rm -f {restored.FOLDER}/run/newest-base.json"
    ask(site, keeper, f"{aside}install -d -m 700 -o rag-backup -g rag-backup {spool}; {known}")
    swap.forget(site, there[0])
    phases.over("stop the old cluster")
    swap.begin(site, there[0], swap.Source(keeper.name, RESTORED), shared, say)
    phases.over("first member")
    ask(site, keeper, "systemctl start rag-wal")
    swap.follow(site, there[0], there[1:], say)
    phases.over("replicas")
    start_program(site, say)
    phases.over("program and indexes")
    last_backup.resume(site, keeper)
    say("a new base backup is in the repository")
    phases.over("new base backup")
    _verify(site, there[0], copy, say)
    last_backup.done(site, keeper)
    phases.over("verify")


def start_program(site: Site, say: Say) -> None:
    """The schema is brought to the release's, the indexes fill anew, and people can ask again."""
    apps = site.having("app")
    empty = "systemctl stop rag-chroma; find /var/lib/rag-chroma -mindepth 1 -delete; systemctl start rag-chroma"
    _each(apps, lambda one: ask(site, one, empty, seconds=300))
    ask(site, apps[0], "systemctl restart rag-migrate", seconds=3600, what="migrate the schema")
    _each(apps, lambda one: ask(site, one, f"systemctl start {' '.join(PROGRAM)}", seconds=300))
    ready = f"curl --fail --silent --max-time 5 http://127.0.0.1:{API.backend}/health/ready"

    def waiting() -> str:
        for machine in apps:
            ask(site, machine, ready, what=f"{machine.name} is ready")
        return ""

    if why := until(waiting, READY):
        raise StoppedError(f"program = not ready in {READY:.0f} s; {why}; journalctl -u rag-api -u rag-index there")
    say("every app host is ready, its index filled from PostgreSQL")


def _verify(site: Site, first: Machine, copy: Copy, say: Say) -> None:
    """Nothing that the copy held is missing in the cluster."""
    tables = [f"'{name}', (select count(*) from {name})" for name in copy.rows]  # noqa: S608 - the program's own tables
    counted = json.loads(ask(site, first, PSQL, f"select json_build_object({', '.join(tables)})", what="count rows"))
    # What housekeeping may have taken meanwhile is older than a month; nothing of these goes by itself.
    missing = {name: count - counted[name] for name, count in copy.rows.items() if counted[name] < count}
    if missing:
        raise StoppedError(f"rows of the cluster = {missing} fewer than in the copy; look there before anybody writes")
    said = ", ".join(f"{counted[name]} {name}" for name in copy.rows)
    say(f"verified: {said}" + (f"; the newest canary of the copy is of {copy.reached}" if copy.reached else ""))


def _each(machines: tuple[Machine, ...], work: Callable[[Machine], object]) -> None:
    with ThreadPoolExecutor(len(machines) or 1) as pool:
        list(pool.map(work, machines))
