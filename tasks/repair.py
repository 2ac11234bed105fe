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
        if mounts := ask(site, machine, _mounts(site)):
            raise RefusedError(
                f"reinit of {name} = refused; {', '.join(mounts.split())} is a file system of its own, and PostgreSQL "
                f"copies into an empty place only; ssh {site.ssh.user}@{machine.address} sudo systemctl stop patroni, "
                "umount it, and again"
            )
        say(f"{name}: its data are thrown away and fetched from {cluster.leading}")
        # Not by Patroni's own order: while it tries to start the broken data, that try goes on beside the copying,
        # and may end in a crash recovery of the fresh copy: a replica with a log of its own.
        again = f"make reinit SITE={site.name} MEMBER={name}"
        anew = f"set -e; systemctl stop patroni; {_emptied(site)}; systemctl start patroni"
        try:
            ask(site, machine, anew, seconds=1800, what="take the data away")
        except AskError as problem:
            raise StoppedError(
                f"reinit of {name} = stopped; {problem}; its PostgreSQL may be down; mend that, then {again}"
            ) from None
        wait_for(site, name, say, seconds=COPY)


def _data(site: Site) -> str:
    return f"/var/lib/postgresql/{site.database.version}/rag"


def _mounts(site: Site) -> str:
    """A shell line that names the file systems mounted at or under a member's data; their places cannot be removed."""
    return f"findmnt --raw --noheadings --output TARGET | grep -E '^{_data(site)}(/|$)' || true"


def _emptied(site: Site) -> str:
    """A shell line that takes a member's data away, also those that lie elsewhere behind a link."""
    data = _data(site)
    return f"find {data}/pg_wal/ {data}/pg_tblspc/*/ -mindepth 1 -delete 2>/dev/null || true; rm -rf {data}"


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
