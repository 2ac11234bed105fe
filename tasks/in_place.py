"""The site as it was at a moment: production's data exchanged for a restored copy's; everything of before is kept."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from inventories.network import API, RESTORED
from inventories.settings import Machine, Site
from tasks import moments, restored, swap
from tasks.lock import alone
from tasks.members import RefusedError, StoppedError
from tasks.patroni import Say, look, of_anybody, until
from tasks.restored import Copy
from tasks.ssh import AskError, ask

PROGRAM = ("rag-api", "rag-worker", "rag-index")
TIMERS = ("rag-backup", "rag-base", "rag-dump", "rag-maintain", "rag-copy", "rag-drill", "rag-drill-weekly")
RECORD = f"{restored.FOLDER}/recovery.json"
READY = 1800.0
"""Seconds for the program to come back; a big index takes longer to refill, and people are told so."""
PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname rag"
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
        request, window = _checked(site, keeper, order)
        there, silent = swap.reachable(site)
        if not there:
            raise RefusedError(f"database machines of {site.name} = all silent; one is needed; make deploy first")
        swap.room(site, there, window["bases"][-1]["bytes"] >> 20)
        if not order.fresh:
            agreed(_warning(site, order, silent))
        phases.over("ask and check")
        # The newest moment is known only when nobody writes any more; an earlier one is brought back meanwhile.
        early = order.to is not None or order.before or order.fresh
        try:
            copy = restored.make(site, keeper, request, say) if early else None
            phases.over("restore")
            stop_program(site, say)
            _last_backup(site, keeper, order, say)
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


def _checked(site: Site, keeper: Machine, order: Order) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request for the copy, and the window; refuses before anything is touched."""
    if since := restored.busy(site, keeper):
        raise RefusedError(
            f"restore = refused; {keeper.name} has a restored copy since {since}; make restored-end SITE={site.name}"
        )
    record = _record(site, keeper)
    if not order.fresh and not _unfinished(record):
        # So that the window reaches to now; a backup host that cannot has an older one.
        ask(site, keeper, "systemctl start rag-backup || true", seconds=900)
    window = restored.window(site, keeper)
    if order.before and not record:
        raise RefusedError("TO = before; a recovery in place to undo is needed, there was none; TO=latest")
    if order.before or (order.to is None and _unfinished(record)):
        return {"to": None, "base": record["base"], "log": record["log"]}, window
    restored.refuse_outside(window, order.to)
    return {"to": order.to.isoformat() if order.to else None}, window


def _record(site: Site, keeper: Machine) -> dict[str, Any]:
    """The last backup that a recovery in place took, and whether that one came to its end; empty: there was none."""
    told: dict[str, Any] = json.loads(ask(site, keeper, f"cat {RECORD} 2>/dev/null || echo '{{}}'"))
    return told


def _unfinished(record: Mapping[str, Any]) -> bool:
    return bool(record) and not record["done"]


def _warning(site: Site, order: Order, silent: list[Machine]) -> list[str]:
    names = ", ".join(machine.name for machine in silent)
    to = "the data of before the last recovery" if order.before else moments.shown(order.to)
    return [
        f"{site.name} goes back to {to}",
        *(lost(site, order.to) if not order.before else ["everything since that recovery is lost"]),
        *([f"silent, and left out: {names}"] if names else []),
        "nobody can use the platform meanwhile; the old data folders are moved aside and stay",
    ]


def stop_program(site: Site, say: Say) -> None:
    """Nobody writes any more, and nobody asks."""
    script = f"systemctl stop {' '.join(PROGRAM)}"
    _each(site.having("app"), lambda one: ask(site, one, script, seconds=300))
    say("API, workers and followers are stopped: nobody writes any more")


def _last_backup(site: Site, keeper: Machine, order: Order, say: Say) -> None:
    """Everything that was acknowledged is in the repository; then the backup host rests."""
    # One that was interrupted has taken it, and what is received since then is of the half-made cluster.
    if not order.fresh and not _unfinished(_record(site, keeper)):
        _wait_for_receiver(site, keeper)
        ask(site, keeper, "systemctl start rag-backup", seconds=900, what="last backup")
        last = restored.window(site, keeper)
        record = {"at": last["last"], "base": last["bases"][-1]["id"], "log": last["log"]["id"], "done": False}
        ask(site, keeper, f"cat > {RECORD}", json.dumps(record))
        say(f"last backup: the log until {last['last'][:19]} is in the repository")
    units = [f"{name}.timer" for name in TIMERS] + [f"{name}.service" for name in ("rag-wal", "rag-base", "rag-dump")]
    ask(site, keeper, f"systemctl stop {' '.join(units)} 2>/dev/null || true", seconds=900)


def _wait_for_receiver(site: Site, keeper: Machine) -> None:
    """The backup host has what the primary has written; one that is dead has nobody to tell."""
    statement = (
        "select flush_lsn >= :'lsn' from pg_stat_replication where client_addr = :'keeper' "
        "and application_name not like 'walreceiver%' order by 1 desc nulls last limit 1"
    )
    try:
        leader = site.machine(look(site).leading or site.having("database")[0].name)
        lsn = ask(site, leader, PSQL, "select pg_current_wal_flush_lsn()", what="where the log ends")
    except AskError:
        return
    script = f"{PSQL} --set lsn={lsn} --set keeper={keeper.address}"
    if until(lambda: "" if ask(site, leader, script, statement) == "t" else "behind", 30):
        raise StoppedError(
            f"{keeper.name} = behind {lsn}; it must receive what was acknowledged; journalctl -u rag-wal"
        )


def _exchange(site: Site, keeper: Machine, there: list[Machine], copy: Copy, phases: Phases) -> None:
    say, mark = phases.say, moments.stamp(datetime.now(UTC))
    shared = swap.shared_settings(site)
    swap.stop(site, there, say)
    swap.put_aside(site, there, mark, say)
    spool = f"{restored.FOLDER}/spool"
    aside = f"test ! -e {spool} || mv -T {spool} {restored.FOLDER}/aside/spool-{mark}; "
    ask(site, keeper, f"{aside}install -d -m 700 -o rag-backup -g rag-backup {spool}")
    swap.forget(site, there[0])
    phases.over("stop the old cluster")
    swap.begin(site, there[0], swap.Source(keeper.name, RESTORED), shared, say)
    phases.over("first member")
    ask(site, keeper, "systemctl start rag-wal")
    swap.follow(site, there[0], there[1:], say)
    phases.over("replicas")
    start_program(site, say)
    phases.over("program and indexes")
    ask(site, keeper, f"for unit in {' '.join(TIMERS)}; do systemctl is-enabled --quiet $unit.timer 2>/dev/null && "
        "systemctl start $unit.timer; done; true")  # fmt: skip
    ask(site, keeper, "systemctl start rag-base", seconds=24 * 3600, what="base backup")
    say("a new base backup is in the repository")
    phases.over("new base backup")
    _verify(site, there[0], copy, say)
    ask(site, keeper, f'sed -i \'s/"done": false/"done": true/\' {RECORD} 2>/dev/null || true')
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
