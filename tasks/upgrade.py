"""Minor upgrade of PostgreSQL, Patroni and etcd: replicas first, the lead handed over, who led last."""

import shlex

from inventories.settings import Machine, Site
from tasks.apt import INSTALL
from tasks.lock import alone
from tasks.members import RefusedError, StoppedError, order_of_roll, why_not
from tasks.patroni import PATIENCE, Say, anew, gate, look, roll_alone, until
from tasks.ssh import AskError, ask

LOG = "/var/log/rag-packages.log"
PACKAGES = "'postgresql*' libpq5 patroni 'etcd-*' python3-etcd"
INSTALLED = (
    f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}} ${{Version}}\\n' {PACKAGES} 2>/dev/null "
    "| sed -n 's/^installed //p'; true"
)
# What runs is old when a file of Debian's that it has mapped is gone, or when its package came after it started:
# versions alone would miss a rebuilt library, and Patroni's own files are not mapped.
STALE = r"""
old() {  # unit, package, process
    test -n "$3" && test "$3" != 0 || return 1
    grep -qE ' /usr/.* \(deleted\)$' "/proc/$3/maps" && return 0
    list=$(ls /var/lib/dpkg/info/"$2".list /var/lib/dpkg/info/"$2":*.list 2>/dev/null | head -n 1)
    test -n "$list" && test "$(stat -c %Y "$list")" -gt "$(( $(date +%s) - $(ps -o etimes= -p "$3") ))"
}
pid() { systemctl show --property=MainPID --value "$1"; }
old etcd etcd-server "$(pid etcd)" && echo etcd
old patroni patroni "$(pid patroni)" && echo patroni
file=$(ls /var/lib/postgresql/*/rag/postmaster.pid 2>/dev/null | head -n 1)
test -n "$file" && old postgresql "postgresql-$(echo "$file" | cut -d/ -f5)" "$(head -n 1 "$file")" && echo postgresql
true
"""


def upgrade(site: Site, say: Say = print) -> None:
    """Bring every database and etcd machine to the newest packages of its sources, one at a time."""
    again = f"make upgrade-database SITE={site.name}"
    with alone(site, "upgrade"):
        cluster = look(site)
        silent = ", ".join(name for name, well in cluster.etcd.items() if not well)
        if why := "the cluster is paused" if cluster.paused else why_not(cluster, site):
            raise RefusedError(f"upgrade = refused; {why}; make cluster SITE={site.name}")
        if silent:
            raise RefusedError(f"upgrade = refused; etcd on {silent} is not healthy; make cluster SITE={site.name}")
        databases = {machine.name for machine in site.having("database")}
        for name in [peer.name for peer in site.having("etcd") if peer.name not in databases]:
            _one(site, site.machine(name), say, again)
        todo, done = set(databases), list[str]()
        while todo:
            name = order_of_roll(gate(site, todo, done, again), todo)[0]
            if _one(site, site.machine(name), say, again) & {"patroni", "postgresql"}:
                roll_alone(site, {name}, say, anew, again)
            todo.remove(name)
            done.append(name)


def _one(site: Site, machine: Machine, say: Say, again: str) -> set[str]:
    """Upgrade one machine's packages and its etcd; what else runs there with files that are gone."""
    try:
        before, held = _installed(site, machine), set(ask(site, machine, "apt-mark showhold").split())
        wanted = sorted(set(before) - held)
        install = f"{INSTALL} --only-upgrade {' '.join(wanted)} >{LOG} 2>&1 || {{ tail -n 5 {LOG} >&2; exit 1; }}"
        ask(site, machine, f"sh -c {shlex.quote(install)}", seconds=900, what="apt-get install --only-upgrade")
        after = _installed(site, machine)
        moved = [f"{name} {before[name]} → {after[name]}" for name in wanted if after.get(name) != before[name]]
        say(f"{machine.name}: {', '.join(moved) or 'nothing newer'}{_kept(held & set(before))}")
        stale = set(ask(site, machine, STALE, what="which processes are old").split())
        if "etcd" in stale:
            say(f"{machine.name}: restarting etcd")
            ask(site, machine, "systemctl restart etcd", seconds=90)
            if problem := until(lambda: _silent(site), 3 * PATIENCE):
                raise StoppedError(f"etcd = not healthy after the restart; {problem}")
    except (AskError, StoppedError) as problem:
        raise StoppedError(f"upgrade = stopped at {machine.name}; {problem}; mend that, then {again}") from None
    return stale


def _kept(held: set[str]) -> str:
    return f"; held and left alone: {', '.join(sorted(held))}" if held else ""


def _silent(site: Site) -> str:
    return ", ".join(f"{name} is silent" for name, well in look(site).etcd.items() if not well)


def _installed(site: Site, machine: Machine) -> dict[str, str]:
    lines = ask(site, machine, INSTALLED, what="which packages are installed").splitlines()
    return dict(line.split() for line in lines)
