"""PostgreSQL under Patroni: one primary, replicas that hold every acknowledged write, TLS and scram for everybody."""

from collections.abc import Iterable
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, deploy

from inventories.certificates import AUTHORITY, ETCD_AUTHORITY, Certificate, certificate_of
from inventories.network import ETCD, PATRONI, POSTGRESQL
from inventories.settings import Machine, Site
from inventories.sizing import Sizing, share_of
from tasks.dcs import cluster_settings, curl
from tasks.operations import barrier, ensure, first_of_this_run
from tasks.roles import NOTHING, Role, roles
from tasks.turns import restarted, waiting
from tasks.wants import Check, Directory, File, Unit, credential, rendered, verbatim

CONFIG = "/etc/patroni/config.yml"
DROP_IN = "/etc/systemd/system/patroni.service.d/rag.conf"
PASSWORDS = "patroni-passwords.yml"
PROGRAMS = "/usr/local/lib/rag"


@deploy("Database")
def database(site: Site, machine: Machine) -> None:
    """A member of the cluster; restarts go one machine at a time, and the primary's by a switchover."""
    own, to_etcd, postgresql = (
        certificate_of(site, machine, service) for service in ("patroni", "patroni-etcd", "postgresql")
    )
    url = f"https://{machine.name}:{PATRONI}"
    sizing = share_of(site, machine, **host.get_fact(Capacity))
    shared = shared_settings(site, sizing)
    passwords = rendered(
        "database/passwords.yml.j2",
        superuser=site.secret("postgres-password"),
        replication=site.secret("replication-password"),
        rewind=site.secret("rewind-password"),
    )
    files = [
        File(
            CONFIG,
            rendered(
                "database/config.yml.j2",
                machine=machine,
                settings=site.database,
                sizing=sizing,
                shared=shared,
                members=site.having("database"),
                etcds=site.having("etcd"),
                clients=site.having("app"),
                backups=site.having("backup"),
                patroni=own,
                patroni_etcd=to_etcd,
                postgresql=postgresql,
                authority=AUTHORITY,
                etcd_authority=ETCD_AUTHORITY,
                ports={"patroni": PATRONI, "postgresql": POSTGRESQL, "etcd": ETCD},
            ),
        ),
        credential(PASSWORDS, passwords.decode()),
        File(DROP_IN, rendered("database/patroni.conf.j2", settings=site.database)),
    ]
    ensure(
        name="Run PostgreSQL under Patroni",
        directories=[Directory("/etc/patroni"), Directory("/etc/credstore", "700")],
        files=files,
        units=[
            # What a reload does not take in waits below for the member's turn.
            Unit("patroni.service", reloads=(CONFIG, *(held.certificate for held in (own, to_etcd, postgresql))))
        ],
        # A cluster that is being made holds its settings a moment after its PostgreSQL runs.
        check=Check(
            f"{curl(own, f'{url}/health')} && {curl(own, f'{url}/config')} || {{ {curl(own, f'{url}/config')} | "
            "grep -q '\"pause\": *true' && echo 'cluster = paused, nothing starts by itself; a resumed one is needed; "
            f"make resume SITE={site.name}' >&2; false; }}",
            seconds=180,
            busy=_copying(site, own, url),
        ),
    )
    _beside_it(site, machine, own, url)
    barrier(name="Every member of the cluster runs")

    cluster_settings(
        name="Keep the cluster's settings",
        needed=first_of_this_run(machine, site.having("database")),
        wanted=shared,
        url=f"{url}/config",
        certificate=own,
        site=site,
    )
    roles(name="Give everybody a role of their own", wanted=_roles(site), database="rag", owner="rag_owner")
    barrier(name="The cluster has its settings and its roles")

    waiting(
        name="Ask who waits for a restart", site=site, machine=machine, reads=(DROP_IN, f"/etc/credstore/{PASSWORDS}")
    )
    barrier(name="It is known who waits for a restart")
    restarted(
        name="Restart members in turn, the primary after a switchover",
        needed=first_of_this_run(machine, site.having("database")),
        site=site,
    )


def _copying(site: Site, own: Certificate, url: str) -> str:
    """What a member does that takes as long as it has data: fetch them, or replay what it missed."""
    doing = 's/.*"state": *"\\(creating replica\\|starting\\)".*/\\1/p'
    data = f"/var/lib/postgresql/{site.database.version}/rag"
    return (
        f"doing=$({curl(own, f'{url}/patroni', errors=True)} | sed -n '{doing}'); "
        f'test -n "$doing" && echo "$doing: $(du -sm {data} | cut -f 1) MB are here"'
    )


def _beside_it(site: Site, machine: Machine, own: Certificate, url: str) -> None:
    several = len(site.having("database")) > 1
    programs = {
        "refusals": True,
        # Nobody takes the lease of an only member, so a guard could do harm alone.
        "guard": several,
        "etcd-lead": several and "etcd" in machine.roles and len(site.having("etcd")) > 1,
    }
    wanted = [name for name, is_wanted in programs.items() if is_wanted]
    scripts = {
        name: File(f"{PROGRAMS}/{name}", verbatim(f"database/{name.replace('-', '_')}.py"), "755") for name in wanted
    }
    units = {
        name: File(
            f"/etc/systemd/system/rag-{name}.service",
            rendered(
                f"database/rag-{name}.service.j2",
                machine=machine,
                url=url,
                authority=AUTHORITY,
                patroni=own,
                data=f"/var/lib/postgresql/{site.database.version}/rag",
                silence=site.database.guard_seconds,
                watchdog=site.database.watchdog,
            ),
        )
        for name in wanted
    }
    ensure(
        name="Guard the primary, count whom it refuses, lead etcd elsewhere",
        directories=[Directory(PROGRAMS)],
        files=[*scripts.values(), *units.values()],
        units=[Unit(f"rag-{name}.service", reads=(scripts[name].path, units[name].path)) for name in wanted],
    )


def _roles(site: Site) -> list[Role]:
    replicating = NOTHING.replace("NOREPLICATION", "REPLICATION")
    return [
        Role("postgres", site.secret("postgres-password"), NOTHING.replace("NO", "")),
        Role("replicator", site.secret("replication-password"), replicating),
        Role("rewinder", site.secret("rewind-password")),
        Role("rag_owner", site.secret("database-owner-password")),
        Role("rag", site.secret("database-password")),
        Role("rag_read", site.secret("database-read-password")),
        Role("rag_monitor", site.secret("monitor-password"), member_of="pg_monitor"),
        Role("rag_backup", site.secret("backup-password"), replicating, member_of="pg_read_all_data"),
    ]


def shared_settings(site: Site, sizing: Sizing) -> dict[str, Any]:
    """What the whole cluster shares: Patroni reads it from its own file once, and from etcd ever after."""
    settings = site.database
    shared: dict[str, Any] = {
        # What these cost without a write is in docs/bench.md: seconds for a postmaster, the lease for a machine.
        "ttl": settings.ttl,
        "loop_wait": settings.loop_wait,
        "retry_timeout": settings.retry_timeout,
        # A crashed primary is not waited for: a replica that has everything takes over at once.
        "primary_start_timeout": 0,
        "maximum_lag_on_failover": 1048576,
        # A write is acknowledged when one replica has it too, so the machine that dies takes nothing along.
        "synchronous_mode": "quorum" if site.replication == "quorum" else False,
        "synchronous_node_count": 1,
        # With etcd gone the primary goes on as long as it reaches every replica.
        "failsafe_mode": True,
        "member_slots_ttl": "30min",
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "wal_level": "replica",
                "hot_standby": "on",
                "wal_log_hints": "on",
                "max_wal_senders": 10,
                "max_replication_slots": 10,
                "max_connections": sizing.connections,
                # A replica or backup host that is gone for long must not fill the primary's disk.
                "max_slot_wal_keep_size": f"{settings.slot_wal_mb}MB",
                "wal_keep_size": "256MB",
            },
        },
    }
    if site.having("backup"):
        # Kept on every member, so that the backup host finds its place on the next primary too.
        shared["slots"] = {"rag_backup": {"type": "physical"}}
    return shared


class Capacity(FactBase[dict[str, int]]):
    """The machine's memory in MB and its cores."""

    @staticmethod
    def default() -> dict[str, int]:
        """A machine that does not answer has nothing."""
        return {"memory_mb": 0, "cores": 1}

    def command(self) -> str:
        """One line."""
        return "echo $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) $(nproc)"

    def process(self, output: Iterable[str]) -> dict[str, int]:
        """Two numbers."""
        memory, cores = next(iter(output)).split()
        return {"memory_mb": int(memory) // 1024, "cores": int(cores)}
