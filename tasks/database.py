"""PostgreSQL under Patroni: one primary, replicas that hold every acknowledged write, TLS and scram for everybody."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from inventories.certificates import AUTHORITY, ETCD_AUTHORITY, Certificate, certificate_of
from inventories.network import ETCD, PATRONI, POSTGRESQL
from inventories.settings import Database, Machine, Site
from tasks.operations import Commands, barrier, ensure, first_of_this_run
from tasks.wants import Check, Directory, File, Unit, credential, rendered

CONFIG = "/etc/patroni/config.yml"
DROP_IN = "/etc/systemd/system/patroni.service.d/rag.conf"
PASSWORDS = "patroni-passwords.yml"


@deploy("Database")
def database(site: Site, machine: Machine) -> None:
    """A member of the cluster, and on the primary the application's role and database."""
    patroni, patroni_etcd, postgresql = (
        certificate_of(site, machine, service) for service in ("patroni", "patroni-etcd", "postgresql")
    )
    url = f"https://{machine.name}:{PATRONI}"
    passwords = rendered(
        "database/passwords.yml.j2",
        superuser=site.secret("postgres-password"),
        replication=site.secret("replication-password"),
        rewind=site.secret("rewind-password"),
    )
    ensure(
        name="Run PostgreSQL under Patroni",
        directories=[Directory("/etc/patroni"), Directory("/etc/credstore", "700")],
        files=[
            File(
                CONFIG,
                rendered(
                    "database/config.yml.j2",
                    machine=machine,
                    settings=site.database,
                    members=site.having("database"),
                    etcds=site.having("etcd"),
                    clients=site.having("app"),
                    patroni=patroni,
                    patroni_etcd=patroni_etcd,
                    postgresql=postgresql,
                    authority=AUTHORITY,
                    etcd_authority=ETCD_AUTHORITY,
                    ports={"patroni": PATRONI, "postgresql": POSTGRESQL, "etcd": ETCD},
                ),
            ),
            credential(PASSWORDS, passwords.decode()),
            File(DROP_IN, rendered("database/patroni.conf.j2", settings=site.database)),
        ],
        units=[
            Unit(
                "patroni.service",
                reads=(
                    CONFIG,
                    f"/etc/credstore/{PASSWORDS}",
                    DROP_IN,
                    *(held.certificate for held in (patroni, patroni_etcd, postgresql)),
                ),
                in_turn=True,
            )
        ],
        # A cluster that is being made holds its settings a moment after its PostgreSQL runs.
        check=Check(f"{_curl(patroni, f'{url}/health')} && {_curl(patroni, f'{url}/config')}", seconds=180),
    )
    barrier(name="Every member of the cluster runs")

    cluster_settings(
        name="Keep the cluster's settings",
        needed=first_of_this_run(machine, site.having("database")),
        wanted=shared_settings(site.database),
        url=f"{url}/config",
        certificate=patroni,
    )
    application_role(name="Give the application its role", role="rag", password=site.secret("database-password"))


def shared_settings(settings: Database) -> dict[str, Any]:
    """What the whole cluster shares: Patroni reads it from its own file once, and from etcd ever after."""
    return {
        "ttl": settings.ttl,
        "loop_wait": settings.loop_wait,
        "retry_timeout": settings.retry_timeout,
        "postgresql": {"parameters": {"max_connections": settings.max_connections}},
    }


def holds(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether every wanted value is there, whatever else is."""
    return all(
        holds(found.get(name) or {}, value) if isinstance(value, dict) else found.get(name) == value
        for name, value in wanted.items()
    )


def _curl(certificate: Certificate, url: str) -> str:
    return (
        f"curl --fail --silent --show-error --max-time 10 --cacert {AUTHORITY} "
        f"--cert {certificate.certificate} --key {certificate.key} {url}"
    )


class SharedSettings(FactBase[dict[str, Any]]):
    """What Patroni holds for the whole cluster."""

    @staticmethod
    def default() -> dict[str, Any]:
        """Nothing answers."""
        return {}

    def command(self, url: str, certificate: Certificate) -> str:
        """Patroni's own answer."""
        return f"{_curl(certificate, url)} || true"

    def process(self, output: Iterable[str]) -> dict[str, Any]:
        """JSON."""
        found: dict[str, Any] = json.loads("".join(output) or "{}")
        return found


@operation()
def cluster_settings(needed: bool, wanted: dict[str, Any], url: str, certificate: Certificate) -> Commands:
    """
    Give the cluster these settings; every member takes them in within a round of Patroni's.

    + needed: this machine is the one that does it
    + wanted: values by name; what else the cluster holds stays
    + url, certificate: how to reach Patroni
    """
    if not needed or holds(host.get_fact(SharedSettings, url=url, certificate=certificate), wanted):
        host.noop("the cluster has the settings")
        return
    yield StringCommand(
        f"{_curl(certificate, url)} --output /dev/null --request PATCH --data @-", _stdin=json.dumps(wanted)
    )


class RoleMark(FactBase[str]):
    """``replica``, or on the primary the mark of the application's role and whether its database is there."""

    @staticmethod
    def default() -> str:
        """Nothing answers."""
        return ""

    def command(self, role: str) -> str:
        """Through the local socket, as the superuser."""
        return (
            "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --command "
            "\"select case when pg_is_in_recovery() then 'replica' else coalesce((select "
            "shobj_description(oid, 'pg_authid') from pg_roles where rolname = '" + role + "'), '') || ' ' || "
            "(select count(*) from pg_database where datname = '" + role + "') end\" 2>/dev/null || true"
        )

    def process(self, output: Iterable[str]) -> str:
        """The only line."""
        return next(iter(output), "").strip()


def scram_verifier(password: str, salt: bytes, iterations: int = 4096) -> str:
    """What PostgreSQL stores of a password (RFC 5802, RFC 7677), so that the password itself never gets there."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.digest(salted, label, "sha256") for label in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    salt_text, stored_text, server_text = (b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


@operation()
def application_role(role: str, password: str) -> Commands:
    """
    On the primary: a role that owns its own database and nothing else; the replicas get it by replication.

    + role: name of the role and of its database
    + password: only its verifier reaches the server
    """
    salt = hashlib.sha256(f"{role}:{password}".encode()).digest()[:16]
    verifier = scram_verifier(password, salt)
    mark = hashlib.sha256(verifier.encode()).hexdigest()[:16]
    found = host.get_fact(RoleMark, role=role)
    if found in {"replica", f"{mark} 1"}:
        host.noop("the role is there" if found != "replica" else "a replica gets it from the primary")
        return
    psql = "cd /; runuser -u postgres -- psql --no-psqlrc --quiet --set ON_ERROR_STOP=1"
    limits = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    yield StringCommand(
        psql,
        _stdin=(
            f"SELECT 'CREATE ROLE {role}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')\\gexec\n"
            f"ALTER ROLE {role} {limits} PASSWORD '{verifier}';\n"
            f"SELECT 'CREATE DATABASE {role} OWNER {role}' "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{role}')\\gexec\n"
            f"REVOKE ALL ON DATABASE {role} FROM PUBLIC;\n"
            f"COMMENT ON ROLE {role} IS '{mark}';\n"
        ),
    )
