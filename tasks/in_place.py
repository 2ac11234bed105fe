"""The site as it was at a moment: production's data exchanged for a restored copy's; everything of before is kept."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyinfra.api.exceptions import PyinfraError

from inventories.network import RESTORED
from inventories.settings import Machine, Site
from tasks import last_backup, losses, moments, outage, restored, swap
from tasks.last_backup import PSQL
from tasks.lock import Lock, alone
from tasks.members import RefusedError, StoppedError
from tasks.outage import Hosts
from tasks.patroni import Say
from tasks.restored import Copy
from tasks.ssh import AskError, ask


@dataclass
class Phases:
    """Seconds of each phase of a recovery, and how a person is told."""

    say: Say
    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    last: float = 0.0
    locks: list[Lock] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last = self.clock()

    def over(self, name: str) -> None:
        """The phase of that name ends now."""
        now = self.clock()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now
        self.check()

    def check(self) -> None:
        """Raise StoppedError where somebody else may act on the same machines by now."""
        for lock in self.locks:
            lock.check()

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


@dataclass(frozen=True)
class Plan:
    """What was found out before anything stands still."""

    request: dict[str, Any]
    window: dict[str, Any]
    moment: datetime | None
    record: dict[str, Any]
    counts: bool
    """An unfinished recovery's last backup counts: what the backup host received since is of a half-made cluster."""
    there: list[Machine]
    silent: list[Machine]
    hosts: Hosts
    shared: dict[str, Any]
    """What etcd holds for the whole cluster, which the new one gets too."""

    @property
    def left_out(self) -> str:
        """The names of the machines that do not answer."""
        return ", ".join(machine.name for machine in (*self.silent, *self.hosts.silent))


def recover(site: Site, order: Order, agreed: Callable[[list[str]], None], phases: Phases) -> None:
    """All of it; ``agreed`` gets the lines that say what will be lost, and raises RefusedError where nobody agrees."""
    say, keeper = phases.say, restored.keeper_of(site)
    with alone(site, "restore in place") as lock:
        phases.locks.append(lock)
        plan = _checked(site, keeper, order)
        if not order.fresh:
            agreed(_warning(site, order, plan))
        phases.over("ask and check")
        # The newest moment is known only when nobody writes any more; an earlier one is brought back meanwhile.
        early = order.to is not None or order.before or order.fresh
        copy = restored.make(site, keeper, plan.request, say) if early else None
        phases.over("restore")
        copy, taken = _still(site, keeper, order, plan, copy, phases)
        with _in_between(site, order):
            _exchange(site, keeper, plan, copy, taken, phases)
        for machine in plan.silent:
            say(f"{machine.name} was silent; when it is back: make reinit SITE={site.name} MEMBER={machine.name}")
        for machine in plan.hosts.silent:
            say(f"{machine.name} was silent; when it is back, its index sees that the data are others and fills anew")


def end(site: Site, keeper: Machine, say: Say) -> None:
    """The restored copy is gone; what a recovery stopped and left so, with the data untouched, goes on."""
    restored.end(site, keeper)
    say("the restored copy is gone")
    if not outage.stands_still(site):
        return
    if last_backup.unfinished(last_backup.record_of(site, keeper), restored.window(site, keeper)):
        say(f"a recovery stopped midway; make restore SITE={site.name} IN_PLACE=1 with the same TO, or with TO=before")
    elif broken := outage.go_on(site, keeper, swap.reachable(site)[0], outage.hosts_of(site)):
        raise StoppedError(f"not all of it runs again: {broken}; make deploy SITE={site.name}")
    else:
        say("no data were touched by the recovery that stopped; all goes on")


def _checked(site: Site, keeper: Machine, order: Order) -> Plan:
    """Everything that can be known and refused before anything stands still."""
    if since := restored.busy(site, keeper):
        raise RefusedError(
            f"restore = refused; {keeper.name} has a restored copy since {since}; make restored-end SITE={site.name}"
        )
    record = last_backup.record_of(site, keeper)
    counts = bool(record) and not order.fresh and last_backup.unfinished(record, restored.window(site, keeper))
    if counts and last_backup.used(site, record):
        # It was given up, and the site lives on: only with a base of its own does that come back.
        last_backup.base(site, keeper)
        counts = False
    if not order.fresh and not counts:
        # So that the window reaches to now; a backup host that cannot has an older one.
        ask(site, keeper, "systemctl start rag-backup || true", seconds=900)
    window = restored.window(site, keeper)
    request, moment = _wanted(order, record, window, counts=counts)
    there, silent = swap.reachable(site)
    if not there:
        raise RefusedError(f"database machines of {site.name} = all silent; one is needed; make deploy first")
    hosts = outage.hosts_of(site)
    swap.room(site, there, window["bases"][-1]["bytes"] >> 20)
    restored.room(site, keeper, window, request.get("base", ""))
    return Plan(request, window, moment, record, counts, there, silent, hosts, swap.shared_settings(site))


def _wanted(
    order: Order, record: Mapping[str, Any], window: Mapping[str, Any], *, counts: bool
) -> tuple[dict[str, Any], datetime | None]:
    """The request for the copy, and the moment that it is of where that is known."""
    if order.before and not record:
        raise RefusedError("TO = before; a recovery in place to undo is needed, there was none; TO=latest")
    if order.before or (order.to is None and counts):
        known = {"to": None, "base": record["base"], "log": record["log"]}
        return known, datetime.fromisoformat(record["at"])
    restored.refuse_outside(window, order.to)
    return {"to": order.to.isoformat() if order.to else None}, order.to


def _warning(site: Site, order: Order, plan: Plan) -> list[str]:
    last = plan.counts and order.to is None and not order.before
    return [
        f"{site.name} goes back to {moments.shown(plan.moment)}",
        *(["a recovery did not come to its end; latest is the last backup that it took"] if last else []),
        *losses.lost(site, plan.moment),
        *([f"silent, and left out: {plan.left_out}"] if plan.left_out else []),
        "nobody can use the platform meanwhile; the old data folders are moved aside and stay",
    ]


def _still(
    site: Site, keeper: Machine, order: Order, plan: Plan, copy: Copy | None, phases: Phases
) -> tuple[Copy, dict[str, Any]]:
    """Nobody writes, the last backup is taken if one is, no PostgreSQL runs; what fails here leaves all as it was."""
    say, taken = phases.say, dict[str, Any]()
    try:
        outage.stop(site, plan.hosts, say)
        since = outage.now_of(site)
        if order.fresh:
            taken = last_backup.held(plan.window)
        elif not plan.counts:
            taken = last_backup.take(site, keeper, say)
        last_backup.rest(site, keeper)
        phases.over("stop, last backup")
        if copy is None:
            copy = restored.make(site, keeper, plan.request, say)
            phases.over("restore")
        outage.refuse_who_writes(site, plan.hosts, since)
        phases.check()
        swap.stop(site, plan.there, say)
        swap.refuse_other_leader(site, plan.there)
    except BaseException as problem:
        with suppress(AskError):
            restored.end(site, keeper)
        broken = outage.go_on(site, keeper, plan.there, plan.hosts)
        if not isinstance(problem, PyinfraError | KeyboardInterrupt):
            raise
        stands = f"not all of it runs again: {broken}; make deploy SITE={site.name}" if broken else "all goes on"
        raise StoppedError(
            f"restore in place = stopped; {str(problem) or 'interrupted'}; no data were touched and {stands}; "
            "mend that, then the same command"
        ) from None
    return copy, taken


@contextmanager
def _in_between(site: Site, order: Order) -> Iterator[None]:
    """From here on the data are those of before no more, and not yet the others."""
    again = (
        f"make restore SITE={site.name} IN_PLACE=1 with the same TO; with TO=before the data of before come back; "
        "the old data folders stay in any case"
    )
    try:
        yield
    except (PyinfraError, KeyboardInterrupt) as problem:
        raise StoppedError(
            f"restore in place = stopped midway; {str(problem) or 'interrupted'}; mend that, then make restored-end "
            f"SITE={site.name} and {f'make rebuild SITE={site.name} with the same FROM' if order.fresh else again}"
        ) from None


def _exchange(site: Site, keeper: Machine, plan: Plan, copy: Copy, taken: Mapping[str, Any], phases: Phases) -> None:
    say, mark, there = phases.say, moments.stamp(datetime.now(UTC)), plan.there
    if taken:
        last_backup.begun(site, keeper, taken, last_backup.breaks_of(plan.record, plan.window))
    swap.put_aside(site, there, mark, say)
    _new_spool(site, keeper, mark)
    phases.check()
    swap.refuse_other_leader(site, there)
    swap.forget(site, there[0])
    phases.over("stop the old cluster")
    swap.begin(site, there[0], swap.Source(keeper.name, RESTORED), plan.shared, say)
    phases.over("first member")
    # Its room is needed for the new base.
    restored.end(site, keeper)
    ask(site, keeper, "systemctl start rag-wal")
    swap.follow(site, there[0], there[1:], say)
    phases.over("replicas")
    _verify(site, there[0], copy, say)
    phases.over("verify")
    outage.begin(site, plan.hosts, say)
    phases.over("program and indexes")
    last_backup.resume(site, keeper)
    last_backup.done(site, keeper)
    say("a new base backup is in the repository")
    phases.over("new base backup")


def _new_spool(site: Site, keeper: Machine, mark: str) -> None:
    """What is received from now on is of the new cluster; no base backup of before goes together with it, no canary."""
    forgotten = f"cd {restored.FOLDER}/run; rm -f newest-base.json canaries.json"
    script = f"set -e; {restored.anew('spool', mark)}; {forgotten}"
    ask(site, keeper, script, what="move the received log aside")


def _verify(site: Site, first: Machine, copy: Copy, say: Say) -> None:
    """Nothing that the copy held is missing in the cluster, in which nobody has written yet."""
    tables = [f"'{name}', (select count(*) from {name})" for name in copy.rows]  # noqa: S608 - the program's own tables
    counted = json.loads(ask(site, first, PSQL, f"select json_build_object({', '.join(tables)})", what="count rows"))
    missing = {name: count - counted[name] for name, count in copy.rows.items() if counted[name] < count}
    if missing:
        raise StoppedError(f"rows of the cluster = {missing} fewer than in the copy; look there before anybody writes")
    said = ", ".join(f"{counted[name]} {name}" for name in copy.rows)
    say(f"verified: {said}" + (f"; the newest canary of the copy is of {copy.reached}" if copy.reached else ""))
