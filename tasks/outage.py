"""What stands still while the site goes back to another moment: stopped, kept from starting, and begun again."""

import shlex
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from inventories.network import API
from inventories.settings import Machine, Site
from tasks import last_backup
from tasks.last_backup import PSQL
from tasks.members import RefusedError, StoppedError
from tasks.patroni import Say, look, until
from tasks.ssh import AskError, SilentError, ask

PROGRAM = ("rag-api", "rag-worker", "rag-index")
HELD = (*PROGRAM, "rag-migrate")
READY = 1800.0
"""Seconds for the program to come back; a big index takes longer to refill, and people are told so."""
HOLD = "[Unit]\nAssertPathExists=/run/nothing-starts-while-the-site-is-being-recovered\n"
# Who stopped asks nobody any more; a program that lives asks every few seconds, also where SSH does not reach it.
STILL = (
    "select coalesce(string_agg(distinct host(client_addr), ' '), '') from pg_stat_activity "
    "where usename in ('rag', 'rag_owner') and client_addr is not null and state_change > :'since'"
)


@dataclass(frozen=True)
class Hosts:
    """The app hosts, and which of them did not answer when it began."""

    there: tuple[Machine, ...]
    silent: tuple[Machine, ...]


def drop_in(unit: str) -> str:
    """The file that keeps a unit from starting, wherever its own file lies; it goes with the machine's next start."""
    return f"/run/systemd/system/{unit}.service.d/recovery.conf"


def held(units: Iterable[str]) -> str:
    """A shell line: these do not start, whoever asks, a deploy that is under way or a person."""
    files = [f"mkdir -p $(dirname {path}); printf %s {shlex.quote(HOLD)} > {path}" for path in map(drop_in, units)]
    return f"{'; '.join(files)}; systemctl daemon-reload"


def free(units: Iterable[str]) -> str:
    """A shell line: these may start again."""
    return f"rm -f {' '.join(drop_in(unit) for unit in units)}; systemctl daemon-reload"


def hosts_of(site: Site) -> Hosts:
    """Which app hosts answer; one at least must, since it brings the schema to the release's."""
    apps = site.having("app")

    def answers(machine: Machine) -> bool:
        try:
            return ask(site, machine, "echo here", seconds=30) == "here"
        except SilentError:
            return False

    with ThreadPoolExecutor(len(apps) or 1) as pool:
        found = list(zip(apps, pool.map(answers, apps), strict=True))
    hosts = Hosts(*(tuple(one for one, well in found if well == wanted) for wanted in (True, False)))
    if apps and not hosts.there:
        raise RefusedError(f"app hosts of {site.name} = all silent; one is needed; make deploy SITE={site.name} first")
    return hosts


def stop(site: Site, hosts: Hosts, say: Say) -> None:
    """Nobody writes any more, and nobody asks, until ``begin`` or ``go_on``."""
    script = f"{held(HELD)}; systemctl stop {' '.join(PROGRAM)}"
    each(hosts.there, lambda one: ask(site, one, script, seconds=300))
    say("API, workers and followers are stopped: nobody writes any more")


def now_of(site: Site) -> str:
    """The primary's own time; empty where there is none."""
    leader = _leader(site)
    return ask(site, leader, PSQL, "select clock_timestamp()") if leader else ""


def refuse_who_writes(site: Site, hosts: Hosts, since: str) -> None:
    """Raise StoppedError where a program runs again, or one that SSH does not reach has asked the primary since."""
    script = f"systemctl is-active {' '.join(HELD)} | grep -vx -e inactive -e failed -e unknown; true"
    for machine in hosts.there:
        if ask(site, machine, script):
            raise StoppedError(f"{machine.name} = runs again; it must stand still; systemctl stop 'rag-*' there")
    leader = _leader(site) if since else None
    if leader and (asked := ask(site, leader, f"{PSQL} --set since={shlex.quote(since)}", STILL, what="who writes")):
        raise StoppedError(f"the program at {asked} = writes still; it must stand still; systemctl stop 'rag-*' there")


def _leader(site: Site) -> Machine | None:
    try:
        leading = look(site).leading
    except AskError:
        return None
    return site.machine(leading) if leading else None


def begin(site: Site, hosts: Hosts, say: Say) -> None:
    """The schema is brought to the release's, the indexes fill anew, and people can ask again."""
    empty = (
        f"{free(HELD)}; systemctl stop rag-chroma; find /var/lib/rag-chroma -mindepth 1 -delete; "
        "systemctl start rag-chroma"
    )
    each(hosts.there, lambda one: ask(site, one, empty, seconds=300))
    if hosts.there:
        ask(site, hosts.there[0], "systemctl restart rag-migrate", seconds=3600, what="migrate the schema")
    each(hosts.there, lambda one: ask(site, one, f"systemctl start {' '.join(PROGRAM)}", seconds=300))
    ready = f"curl --fail --silent --max-time 5 http://127.0.0.1:{API.backend}/health/ready"

    def waiting() -> str:
        for machine in hosts.there:
            ask(site, machine, ready, what=f"{machine.name} is ready")
        return ""

    if why := until(waiting, READY):
        raise StoppedError(f"program = not ready in {READY:.0f} s; {why}; journalctl -u rag-api -u rag-index there")
    say("every app host that answers is ready, its index filled from PostgreSQL")


def go_on(site: Site, keeper: Machine, databases: Iterable[Machine], hosts: Hosts) -> str:
    """Nothing was exchanged: all goes on as it was; in words, what could not be begun again."""
    guard = "systemctl is-enabled --quiet rag-guard 2>/dev/null && systemctl start rag-guard; true"
    work: list[tuple[Machine, str]] = [
        *((one, f"{free(['patroni'])}; systemctl start patroni && {{ {guard}; }}") for one in databases),
        *((one, f"{free(HELD)}; systemctl start {' '.join(PROGRAM)}") for one in hosts.there),
        (keeper, f"systemctl start rag-wal; {last_backup.TIMERS_ON}"),
    ]
    broken = []
    for machine, script in work:
        try:
            ask(site, machine, script, seconds=300, what="go on")
        except AskError as problem:
            broken.append(str(problem))
    return " and ".join(broken)


def stands_still(site: Site) -> bool:
    """Whether a recovery whose controller died still keeps a program from starting."""

    def asked(machine: Machine) -> bool:
        with suppress(SilentError):
            return ask(site, machine, f"test ! -e {drop_in('rag-api')} || echo held") == "held"
        return False

    return any(asked(machine) for machine in site.having("app"))


def each(machines: Iterable[Machine], work: Callable[[Machine], object]) -> None:
    """On all of them at once."""
    those = list(machines)
    with ThreadPoolExecutor(len(those) or 1) as pool:
        list(pool.map(work, those))
