"""
The cluster as it is, and what may be done to it: switch over, restart one after another, wait for Patroni.

What decides is pure; what acts asks the cluster again before every step, and stops in one line when it is not well.
"""

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from inventories.settings import Machine, Site
from tasks.lock import alone
from tasks.members import (
    Cluster,
    RefusedError,
    StoppedError,
    behind,
    best,
    cluster_of,
    order_of_roll,
    refusal_of_switchover,
    why_not,
)
from tasks.ssh import AskError, ask
from tasks.wants import verbatim

Answer = TypeVar("Answer")
Say = Callable[[str], object]
Do = Callable[[Site, Machine], object]

PATIENCE = 20.0
"""Seconds for what settles by itself within a few rounds of Patroni, such as the quorum set after a restart."""
RETURN = 300.0
"""Seconds for a member to come back; it may have to rewind or to fetch what was written meanwhile."""


def on_member(site: Site, machine: Machine, verb: str, within: float = 30, **values: Any) -> Any:
    """What a verb of templates/patroni/member.py answers on that machine."""
    script = f"cd /; exec runuser -u postgres -- python3 - {verb} {shlex.quote(json.dumps(values))}"
    program = verbatim("patroni/member.py").decode()
    return json.loads(ask(site, machine, script, program, within, what=f"patroni {verb}"))


def look(site: Site, first: str = "") -> Cluster:
    """The cluster, as the first database machine that answers tells it; ``first`` is asked before the others."""
    names = [machine.name for machine in site.having("database")]
    etcds = [machine.name for machine in site.having("etcd")]

    def asked(machine: Machine) -> tuple[str, Any]:
        return machine.name, on_member(site, machine, "look", name=machine.name, members=names, etcds=etcds)

    teller, told = of_anybody(site, asked, first)
    leader = cluster_of(told).leading
    if told["primary"] is None and leader in names and leader != teller:
        # From a leader that is silent the table shows what Patroni last wrote down.
        with suppress(AskError):
            told["primary"] = on_member(site, site.machine(leader), "primary")
    return cluster_of(told)


def two_rounds(site: Site, seconds: float = 60) -> None:
    """Return when every Patroni that answers has looked twice more: it has then taken in what etcd holds."""
    names = [machine.name for machine in site.having("database")]
    asked = {"members": names, "more": 2, "limit": seconds}
    of_anybody(site, lambda machine: on_member(site, machine, "rounds", seconds + 15, **asked))


def of_anybody(site: Site, question: Callable[[Machine], Answer], first: str = "") -> Answer:
    """What the first database machine answers that does; ``first`` is asked before the others."""
    silent = ""
    for machine in sorted(site.having("database"), key=lambda machine: machine.name != first):
        try:
            return question(machine)
        except AskError as problem:
            silent = silent or str(problem)
    raise AskError(f"cluster of {site.name} = nobody answers; {silent}")


def until(true: Callable[[], str], seconds: float) -> str:
    """Empty as soon as ``true`` finds nothing to say, else its last words when the time is over."""
    end = time.monotonic() + seconds
    while True:
        try:
            said = true()
        except AskError as problem:
            said = str(problem)
        if not said or time.monotonic() > end:
            return said
        time.sleep(0.3)


def anew(site: Site, machine: Machine) -> None:
    """A new Patroni, and with it a new PostgreSQL."""
    ask(
        site,
        machine,
        "systemctl daemon-reload; systemctl restart patroni || { journalctl -u patroni -n 3 -o cat >&2; exit 1; }",
        seconds=180,
    )


def in_place(site: Site, machine: Machine) -> None:
    """A new PostgreSQL under the Patroni that runs."""
    # Without a limit of its own Patroni takes primary_start_timeout's, which is 0: do not wait, fail over.
    body = {"timeout": 120}
    on_member(site, machine, "patroni", 180, member=machine.name, path="restart", body=body, method="POST", seconds=150)


def switch_over(site: Site, to: str | None = None, say: Say = print) -> float:
    """Give the lead to ``to`` or to the best member; seconds until that one accepted its first write."""
    with alone(site, "switchover"):
        cluster = look(site)
        if why := refusal_of_switchover(cluster, to):
            raise RefusedError(f"switchover = refused; {why}; make cluster SITE={site.name}")
        new = to or best(cluster)
        seconds = _switch(site, cluster, new, say)
        wait_for(site, cluster.leading, say, new)
        return seconds


def _switch(site: Site, cluster: Cluster, to: str, say: Say) -> float:
    leader = cluster.leading
    say(f"{leader} → {to}: switching over")
    try:
        with _following(site, cluster, to):
            # What is not yet on the disk would be written while nobody accepts writes.
            on_member(site, site.machine(leader), "checkpoint", 300)
            done = on_member(site, site.machine(to), "switch", 90, leader=leader, to=to, limit=60)
    except AskError as problem:
        raise StoppedError(f"switchover to {to} = not done; {problem}; make cluster SITE={site.name}") from None
    seconds: float = done["seconds"]
    say(f"{to} accepts writes: {seconds:.1f} s after the request")
    return seconds


@contextmanager
def _following(site: Site, cluster: Cluster, to: str) -> Iterator[None]:
    """The replicas that do not take over follow who does at once; without it they do two seconds later."""

    def follow(name: str) -> None:
        try:
            on_member(site, site.machine(name), "follow", 330, to=to, limit=300)
        except AskError:
            # Patroni lets it follow, later.
            return

    names = [member.name for member in cluster.replicas if member.name != to and not behind(cluster, member)]
    threads = [threading.Thread(target=follow, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(10)


def wait_for(site: Site, name: str, say: Say, leader: str = "", seconds: float | None = None) -> None:
    """Return when the member streams, is close behind and belongs to the quorum set."""
    began, most = time.monotonic(), RETURN if seconds is None else seconds

    def trouble() -> str:
        cluster = look(site, leader)
        member = cluster.member(name)
        if cluster.leader is None:
            return "nobody leads"
        if member is None:
            return f"{name} is not a member"
        if member.role == "leader":
            return "" if member.state == "running" else f"{name} is {member.state}"
        return behind(cluster, member)

    if why := until(trouble, most):
        raise StoppedError(f"{name} = not back in {most:.0f} s; {why}; journalctl -u patroni -n 50 there")
    say(f"{name} is back in sync: {time.monotonic() - began:.1f} s")


def roll(site: Site, needing: set[str], say: Say = print, do: Do = anew, again: str = "") -> None:
    """
    Restart the members named without losing the service: replicas one by one, the lead handed over, who led last.

    + needing: whose Patroni must be new, or whose PostgreSQL waits for a restart
    + do: how one of them is restarted: ``anew``, ``in_place`` or a function of the caller's own
    + again: the command that goes on after a stop; every member that is done is then left out by who calls
    """
    with alone(site, "rolling restart"):
        roll_alone(site, needing, say, do, again)


def roll_alone(site: Site, needing: set[str], say: Say = print, do: Do = anew, again: str = "") -> None:
    """As ``roll``, for who holds the lock already."""
    again = again or f"make rolling-restart SITE={site.name}"
    cluster = look(site)
    if unknown := needing - {machine.name for machine in site.having("database")}:
        raise RefusedError(
            f"rolling restart = refused; {', '.join(sorted(unknown))} is no database machine of the site"
        )
    if cluster.paused and len(cluster.members) > 1:
        raise RefusedError(
            f"rolling restart = refused; the cluster is paused, nobody would take over; make resume SITE={site.name}"
        )
    pending = any(member.pending_restart for member in cluster.members)
    todo, done = set(needing), list[str]()
    while todo:
        cluster = gate(site, todo, done, again)
        name = order_of_roll(cluster, todo)[0]
        try:
            _restart(site, cluster, name, done, say, do)
        except (AskError, StoppedError) as problem:
            raise StoppedError(_stand(problem, name, done, todo - {name}, again)) from None
        done.append(name)
        todo.remove(name)
    if pending and needing:
        _end_pending(site, needing, done, say, again)


def _stand(why: object, at: str, done: list[str], left: set[str], again: str) -> str:
    where = f"at {at}; {why}" if at else str(why)
    return (
        f"rolling restart = stopped {where}; done: {', '.join(done) or 'nobody'}; "
        f"untouched: {', '.join(sorted(left)) or 'nobody'}; mend that, then {again}"
    )


def gate(site: Site, todo: set[str], done: list[str], again: str) -> Cluster:
    """The cluster, when it is well but for the members that are still to be restarted and broken anyway."""
    found: list[Cluster] = []

    def trouble() -> str:
        found[:] = [look(site, found[0].leading if found else "")]
        return why_not(found[0], site, frozenset(todo - {found[0].leading}) & _ill(found[0], todo))

    if why := until(trouble, PATIENCE):
        raise StoppedError(
            _stand(f"before {order_of_roll(found[0], todo)[0] if found else ''}: {why}", "", done, todo, again)
        )
    return found[0]


def _ill(cluster: Cluster, names: set[str]) -> frozenset[str]:
    return frozenset(name for name in names if (one := cluster.member(name)) is None or behind(cluster, one))


def _restart(site: Site, cluster: Cluster, name: str, done: list[str], say: Say, do: Do) -> None:
    leads = cluster.leading == name
    if leads and not cluster.replicas:
        say(f"{name} is the only member: no writes and no reads until its PostgreSQL runs again")
    elif leads:
        to = best(cluster, frozenset(done)) or best(cluster)
        if why := refusal_of_switchover(cluster, to or None):
            raise StoppedError(why)
        _switch(site, cluster, to, say)
        # One whose Patroni does not know yet what the others ask of it comes back by the restart alone.
        with suppress(StoppedError):
            wait_for(site, name, say, to, PATIENCE)
    say(f"{name}: restarting")
    do(site, site.machine(name))
    wait_for(site, name, say)


def _end_pending(site: Site, needing: set[str], done: list[str], say: Say, again: str) -> None:
    """A replica takes no smaller max_connections than its primary had, so a lowered one reaches the primary first."""
    two_rounds(site)
    for leads in (True, False):
        cluster = look(site)
        waiting = [one.name for one in cluster.members if one.pending_restart and (one.role == "leader") == leads]
        for name in sorted(set(waiting) & needing):
            word = "the primary, for about a second" if leads else "the replica"
            say(f"{name}: a lowered setting reaches the replicas by way of the primary; restarting {word}")
            try:
                in_place(site, site.machine(name))
                wait_for(site, name, say)
            except (AskError, StoppedError) as problem:
                raise StoppedError(_stand(problem, name, done, set(), again)) from None
        if waiting:
            two_rounds(site)
