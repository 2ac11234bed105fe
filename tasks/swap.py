"""
The cluster's data exchanged for those of a recovered server.

Patroni makes the cluster anew: its first member copies the recovered server, the others copy the first. What the
members held before is moved aside and stays; what etcd held of the old cluster is forgotten, but for its settings.
"""

import json
import shlex
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from inventories.certificates import AUTHORITY, certificate_of
from inventories.network import PATRONI, POSTGRESQL
from inventories.settings import Machine, Site
from tasks.members import RefusedError, StoppedError
from tasks.outage import each, free, held
from tasks.patroni import Say, look, of_anybody, on_member, until, wait_for
from tasks.repair import COPY
from tasks.ssh import AskError, SilentError, ask

SETTINGS = "/run/rag-restored.yml"
DROP_IN = "/run/systemd/system/patroni.service.d/restored.conf"
TAKEN_IN = "%t/rag-patroni/config/30-restored.yml"
STOP = 900
"""Seconds for a PostgreSQL to write out what it holds and end."""


@dataclass(frozen=True)
class Source:
    """The recovered server, as the database machines reach it."""

    host: str
    port: int
    user: str = "replicator"


def data_of(site: Site) -> str:
    """A member's data folder."""
    return f"/var/lib/postgresql/{site.database.version}/rag"


def bootstrap_of(site: Site, machine: Machine, source: Source, shared: dict[str, Any]) -> dict[str, Any]:
    """What Patroni reads beside its own settings to begin with a copy of the recovered server."""
    own = certificate_of(site, machine, "postgresql")
    link = (
        f"host={source.host} port={source.port} user={source.user} sslmode=verify-full sslrootcert={AUTHORITY} "
        f"sslcert={own.certificate} sslkey={own.key} connect_timeout=10"
    )
    words = [
        f"/usr/lib/postgresql/{site.database.version}/bin/pg_basebackup",
        f"--pgdata={data_of(site)}",
        "--wal-method=stream",
        "--checkpoint=fast",
        f"--dbname={link}",
    ]
    restored = {"command": shlex.join(words), "no_params": True, "keep_existing_recovery_conf": False}
    bootstrap: dict[str, Any] = {"method": "restored", "restored": restored}
    # Without these Patroni would take those of the deploy's that it read when the old cluster was made.
    bootstrap |= {"dcs": shared} if shared else {}
    # A copy of a server that was written to meanwhile replays that first; Patroni's minute may be too short for it.
    return {"bootstrap": bootstrap, "postgresql": {"pg_ctl_timeout": int(COPY)}}


def reachable(site: Site) -> tuple[list[Machine], list[Machine]]:
    """The database machines that answer, and those that do not, asked twice; one that lives all the same is refused."""
    machines = site.having("database")

    def answers(machine: Machine) -> bool:
        for _ in range(2):
            with suppress(SilentError):
                return ask(site, machine, "echo here", seconds=30) == "here"
        return False

    with ThreadPoolExecutor(len(machines)) as pool:
        found = list(zip(machines, pool.map(answers, machines), strict=True))
    there, silent = ([one for one, well in found if well == wanted] for wanted in (True, False))
    for machine in silent:
        if there and (port := _alive(site, there[0], machine)):
            raise RefusedError(
                f"{machine.name} = lives, its port {port} answers {there[0].name}, and SSH does not; it could lead "
                f"with the data of before; ssh {site.ssh.user}@{machine.address}, or switch it off"
            )
    return there, silent


def _alive(site: Site, teller: Machine, machine: Machine) -> str:
    """Which of Patroni's and PostgreSQL's ports answers; empty: none."""
    script = (
        f"for port in {PATRONI} {POSTGRESQL}; do "
        f'timeout 5 bash -c "exec 3<>/dev/tcp/{machine.address}/$port" 2>/dev/null && echo $port && break; done; true'
    )
    return ask(site, teller, script, what=f"whether {machine.name} lives")


def led_by(site: Site, teller: Machine) -> str:
    """Who holds the lease in etcd; empty: nobody."""
    body = {"key": b64encode(b"/rag/rag/leader").decode()}
    told = on_member(site, teller, "etcd", members=_etcds(site), path="v3/kv/range", body=body)
    held = told.get("kvs", [])
    return b64decode(held[0]["value"]).decode() if held else ""


def refuse_other_leader(site: Site, machines: list[Machine]) -> None:
    """Raise StoppedError where a machine leads that was not stopped."""
    leader = led_by(site, machines[0])
    if leader and leader not in {machine.name for machine in machines}:
        raise StoppedError(
            f"{leader} = leads with the data of before; it must stand still; systemctl stop patroni there"
        )


def room(site: Site, machines: Iterable[Machine], megabytes: int) -> None:
    """Refuse when one of them cannot hold the recovered data beside its old ones, which stay."""
    data = data_of(site)
    script = (
        f"df --block-size=1M --output=avail {data.rpartition('/')[0]} | tail -1; "
        f"findmnt --raw --noheadings --output TARGET | grep -E '^{data}(/|$)' | tr '\\n' ' '; true"
    )
    for machine in machines:
        free, *mounts = ask(site, machine, script).split()
        if mounts:
            raise RefusedError(
                f"data of {machine.name} = a file system of its own at {', '.join(mounts)}; a folder that can be moved "
                f"aside is needed; mount it at {data.rpartition('/')[0]} instead"
            )
        if int(free) < megabytes + site.database.slot_wal_mb:
            raise RefusedError(
                f"free disk of {machine.name} = {free} MB; {megabytes + site.database.slot_wal_mb} MB are needed "
                f"beside the old data, which stay; df -h {data.rpartition('/')[0]}"
            )


def shared_settings(site: Site) -> dict[str, Any]:
    """What etcd holds for the whole cluster; nothing where no Patroni answers."""
    with suppress(AskError):
        held: dict[str, Any] = of_anybody(site, lambda one: on_member(site, one, "config", member=one.name))
        return {name: value for name, value in held.items() if name != "pause"}
    return {}


def stop(site: Site, machines: list[Machine], say: Say) -> None:
    """No PostgreSQL of theirs runs any more, whoever started it, and no Patroni starts until it is let go."""
    data = data_of(site)
    control = f"/usr/lib/postgresql/{site.database.version}/bin/pg_ctl"
    script = (
        f"{held(['patroni'])}; systemctl stop rag-guard 2>/dev/null; systemctl stop patroni; "
        # Debian's unit leaves PostgreSQL to itself when Patroni is killed.
        f"cd /; if runuser -u postgres -- {control} status --pgdata {data} >/dev/null 2>&1; then "
        f"runuser -u postgres -- {control} stop --pgdata {data} --mode fast --timeout {STOP} >/dev/null; fi"
    )
    each(machines, lambda one: ask(site, one, script, seconds=STOP + 120, what="stop PostgreSQL"))
    say(f"{_names(machines)}: PostgreSQL stopped")


def put_aside(site: Site, machines: list[Machine], stamp: str, say: Say) -> None:
    """The data folders under another name beside the old one; a machine that has none has nothing to lose."""
    data = data_of(site)
    aside = f"{data}.before-{stamp}"
    control = f"/usr/lib/postgresql/{site.database.version}/bin/pg_ctl"
    # One that was started anew meanwhile starts what is enabled.
    script = (
        f"cd /; if systemctl is-active --quiet patroni || runuser -u postgres -- {control} status --pgdata {data} "
        ">/dev/null 2>&1; then echo 'PostgreSQL = runs again; it must stand still; systemctl stop patroni' >&2; "
        f"exit 1; fi; test ! -e {data} || {{ test ! -e {aside} && mv -T {data} {aside}; }}"
    )
    each(machines, lambda one: ask(site, one, script, what="move the data aside"))
    say(f"{_names(machines)}: the old data lie in {aside}")


def forget(site: Site, teller: Machine) -> None:
    """etcd knows nothing of the old cluster any more; where Patroni is down everywhere, nobody misses it."""
    first, last = (b64encode(key).decode() for key in (b"/rag/rag/", b"/rag/rag0"))
    body = {"key": first, "range_end": last}
    on_member(site, teller, "etcd", members=_etcds(site), path="v3/kv/deleterange", body=body)


def _etcds(site: Site) -> list[str]:
    return [peer.name for peer in site.having("etcd")]


def begin(site: Site, machine: Machine, source: Source, shared: dict[str, Any], say: Say) -> None:
    """The machine copies the recovered server and leads a cluster of its own."""
    settings = json.dumps(bootstrap_of(site, machine, source, shared))
    unit = f"[Service]\nExecStartPre=/bin/ln -sf {SETTINGS} {TAKEN_IN}\n"
    start = (
        f"set -e; umask 022; {free(['patroni'])}; cat > {SETTINGS}; mkdir -p {DROP_IN.rpartition('/')[0]}; "
        f"printf %s {shlex.quote(unit)} > {DROP_IN}; systemctl daemon-reload; systemctl reset-failed patroni || true; "
        "systemctl start patroni"
    )
    ask(site, machine, start, settings, seconds=180, what="start Patroni")
    say(f"{machine.name}: copies the recovered server")
    try:
        _wait_for_leader(site, machine, say)
    except BaseException:
        # Without the settings below it would make an empty cluster of its own at its next start.
        with suppress(AskError):
            ask(site, machine, f"{held(['patroni'])}; systemctl stop patroni", seconds=180)
        raise
    finally:
        with suppress(AskError):
            taken = TAKEN_IN.replace("%t", "/run")
            ask(site, machine, f"rm -f {SETTINGS} {DROP_IN} {taken}; systemctl daemon-reload")
    say(f"{machine.name} leads, and takes writes")


def _wait_for_leader(site: Site, machine: Machine, say: Say) -> None:
    told = time.monotonic()
    tries = int(ask(site, machine, "systemctl show patroni --property NRestarts --value"))

    def trouble() -> str:
        nonlocal told
        leader = look(site, machine.name).leader
        if leader and leader.name == machine.name and leader.state == "running":
            return ""
        if leader and leader.name != machine.name:
            raise StoppedError(
                f"{leader.name} = leads instead of {machine.name}; it must stand still; systemctl stop patroni there"
            )
        script = f"systemctl show patroni --property NRestarts --value; du -sm {data_of(site)} 2>/dev/null | cut -f 1"
        restarts, *size = ask(site, machine, script, seconds=300).split()
        if int(restarts) > tries:
            said = ask(
                site, machine, "journalctl -u patroni -n 40 -o cat | grep -E 'error|ERROR|FATAL' | tail -2; true"
            )
            raise StoppedError(f"{machine.name} = no copy of the recovered server; {' '.join(said.split())[:300]}")
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say(f"{machine.name}: {(size or ['0'])[0]} MB are here")
        return "no leader yet"

    if why := until(trouble, COPY):
        raise StoppedError(f"{machine.name} = not leading; {why}; journalctl -u patroni -n 50 there")


def follow(site: Site, first: Machine, others: list[Machine], say: Say) -> None:
    """The others copy the first, and hold every write from then on."""
    start = f"{free(['patroni'])}; systemctl start patroni"
    each(others, lambda one: ask(site, one, start, seconds=180, what="start Patroni"))
    for machine in others:
        wait_for(site, machine.name, say, first.name, COPY)
    # One that has no guard has nobody beside it who could take its lease.
    guard = "systemctl is-enabled --quiet rag-guard 2>/dev/null && systemctl start rag-guard; true"
    each([first, *others], lambda one: ask(site, one, guard))


def _names(machines: Iterable[Machine]) -> str:
    return ", ".join(machine.name for machine in machines)
