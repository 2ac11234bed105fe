"""What a person does to one member or to the cluster by hand: pause, resume, fetch a replica anew, take one away."""

from base64 import b64encode
from typing import Any

from inventories.settings import Machine, Site
from tasks.lock import alone
from tasks.members import RefusedError, StoppedError, refusal_of_reinit, refusal_of_removal, why_not
from tasks.patroni import PATIENCE, Say, look, of_anybody, on_member, two_rounds, until, wait_for
from tasks.ssh import AskError, SilentError, ask

COPY = 4 * 3600.0
"""Seconds for a replica to fetch everything from the primary."""


def pause(site: Site, say: Say = print) -> None:
    """Nobody takes over any more, whatever happens, until ``resume``."""
    _set_pause(site, True, "paused: a primary that dies stays dead until `make resume`", say)


def resume(site: Site, say: Say = print) -> None:
    """Failover works again."""
    _set_pause(site, None, "resumed: a replica takes over when the primary dies", say)


def _set_pause(site: Site, value: bool | None, done: str, say: Say) -> None:
    with alone(site, "pause" if value else "resume"):
        if look(site).paused == bool(value):
            say(f"already {done}")
            return
        _configure(site, {"pause": value})
        two_rounds(site)
        if look(site).paused != bool(value):
            raise StoppedError(f"pause = not {bool(value)} after two rounds of Patroni; make cluster SITE={site.name}")
        say(done)


def _configure(site: Site, values: dict[str, object]) -> None:
    change: dict[str, Any] = {"path": "config", "body": values, "method": "PATCH"}
    of_anybody(site, lambda machine: on_member(site, machine, "patroni", member=machine.name, **change))


def reinit(site: Site, name: str, say: Say = print) -> None:
    """Throw a replica's data away and fetch them from the primary."""
    machine = _machine(site, name)
    with alone(site, "reinit"):
        cluster = look(site)
        if why := refusal_of_reinit(cluster, name):
            raise RefusedError(f"reinit of {name} = refused; {why}; make cluster SITE={site.name}")
        # A Patroni that gave up, or was stopped by somebody, could not be told anything.
        ask(site, machine, "systemctl start patroni")
        say(f"{name}: its data are thrown away and fetched from {cluster.leading}")
        began = _started(site, name)
        if problem := until(lambda: _ordered(site, machine), PATIENCE):
            raise StoppedError(f"reinit of {name} = not begun; {problem}")
        # The old PostgreSQL may still look well for a moment.
        if until(lambda: "" if _started(site, name) != began else f"{name} still runs on its old data", COPY):
            raise StoppedError(f"reinit of {name} = not done in {COPY / 3600:.0f} h; journalctl -u patroni -n 50 there")
        wait_for(site, name, say, seconds=COPY)


def _ordered(site: Site, machine: Machine) -> str:
    """Empty when Patroni took the order."""
    order = {"path": "reinitialize", "body": {"force": True}, "method": "POST"}
    try:
        on_member(site, machine, "patroni", 30, member=machine.name, **order)
    except AskError as problem:
        return str(problem)
    return ""


def _started(site: Site, name: str) -> str:
    """When the member's PostgreSQL started; empty while none runs."""
    try:
        return str(on_member(site, site.machine(name), "started", member=name))
    except AskError:
        return ""


def remove(site: Site, name: str, say: Say = print) -> None:
    """Take a member away for good: its services, its vote in etcd, its place in Patroni and its slot."""
    machine = _machine(site, name)
    services = [unit for unit, role in (("patroni", "database"), ("etcd", "etcd")) if role in machine.roles]
    with alone(site, "remove-member"):
        cluster = look(site)
        if why := refusal_of_removal(cluster, name):
            raise RefusedError(f"removal of {name} = refused; {why}; make cluster SITE={site.name}")
        try:
            ask(site, machine, f"systemctl disable --quiet --now {' '.join(services)}", seconds=180)
            say(f"{name}: {' and '.join(services)} stopped, and disabled")
            answers = True
        except SilentError:
            answers = False
            say(f"{name}: does not answer; keep it off, or stop {' and '.join(services)} there before it is back")
        known = _etcd(site, name, "cluster/member/list", {})["members"]
        for one in known:
            if name in {one.get("name"), one["peerURLs"][0].split("//")[1].split(":")[0]}:
                _etcd(site, name, "cluster/member/remove", {"ID": one["ID"]})
                say(f"{name}: has no vote in etcd any more; {len(known) - 1} have")
        if answers:
            # A vote that was taken away is void; a later deploy would give it a new one.
            ask(site, machine, "rm -rf /var/lib/etcd/rag")
        key = b64encode(f"/rag/rag/members/{name}".encode()).decode()
        _etcd(site, name, "kv/deleterange", {"key": key})
        _forget_slot(site, name, say)
        rest = frozenset({name})
        if problem := until(lambda: why_not(look(site), site, rest), 3 * PATIENCE):
            raise StoppedError(f"removal of {name} = done, but {problem}; make cluster SITE={site.name}")
        say(f"{name}: removed; take it out of inventories/{site.name} or give it a successor, and deploy")


def _etcd(site: Site, without: str, path: str, body: dict[str, object]) -> Any:
    """What etcd answers by another member than the one that goes."""
    others = [peer.name for peer in site.having("etcd") if peer.name != without]
    asked: dict[str, Any] = {"members": others, "path": f"v3/{path}", "body": body}
    return of_anybody(site, lambda machine: on_member(site, machine, "etcd", **asked))


def _forget_slot(site: Site, name: str, say: Say) -> None:
    """Patroni keeps the slot of a member that went for half an hour, and the log with it, unless told otherwise."""
    slot = name.replace("-", "_")
    config = of_anybody(site, lambda machine: on_member(site, machine, "config", member=machine.name))
    _configure(site, {"member_slots_ttl": 0})
    try:
        held = until(lambda: "held" if any(one.name == slot for one in look(site).slots) else "", PATIENCE)
    finally:
        _configure(site, {"member_slots_ttl": config.get("member_slots_ttl")})
    say(f"{name}: its slot {'stays until member_slots_ttl is over' if held else 'is gone'}")


def _machine(site: Site, name: str) -> Machine:
    names = [machine.name for machine in site.having("database")]
    if name not in names:
        raise RefusedError(
            f"MEMBER = {name or '(nothing)'}; one of {', '.join(names)} is needed; make cluster SITE={site.name}"
        )
    return site.machine(name)
