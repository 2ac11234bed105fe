"""The RAG program: one release for every app host, the schema migrated once, then API, worker and follower."""

from itertools import chain

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.facts.server import Command

from inventories import network
from inventories.certificates import AUTHORITY, Certificate, certificate_of
from inventories.settings import Machine, Site
from tasks.archives import unpacked
from tasks.operations import Commands, barrier, ensure, first_of_this_run
from tasks.provider import described
from tasks.release import APP, built
from tasks.wants import Check, Directory, File, Unit, User, credential, rendered

CONFIG = "/etc/rag/rag.toml"
MIGRATION = dict.fromkeys(("rag-migrate", "rag-migrate-check"), "/etc/rag/migrate.toml")
"""What the migration reads: a release that refuses the schema must leave what the programs run with as it was."""
CREDENTIALS = {
    "rag-api": ("database-password", "database-read-password", "token-key"),
    "rag-worker": ("database-password",),
    "rag-index": ("database-read-password",),
    "rag-migrate": ("database-owner-password", "admin-password"),
    "rag-migrate-check": ("database-owner-password",),
}
"""The secrets that each unit gets to see, and no others."""
PROVIDER_SECRET = "oidc-client-secret"  # noqa: S105 - its name
PROVIDER_AUTHORITY = "/etc/rag/oidc-ca.crt"
COMPILE = "python3 -m compileall -q -j 0 lib app || true"


@deploy("App")
def app(site: Site, machine: Machine) -> None:
    """The new code serves only after the schema that it needs is there."""
    unpacked(
        name="Unpack the release",
        folder="/opt/rag",
        release=APP.id,
        archive=lambda: built(APP),
        ssh=site.ssh,
        machine=machine,
        after=COMPILE,
    )

    # Who the program is to PostgreSQL. A restart ends the connections that an earlier one opened.
    certificate = certificate_of(site, machine, "app")
    configuration = rendered(
        "app/rag.toml.j2",
        site=site,
        ports=_ports(),
        authority=AUTHORITY,
        certificate=certificate,
        provider_authority=PROVIDER_AUTHORITY,
    )
    ensure(
        name="Configure the migration",
        users=[User("rag")],
        directories=[Directory("/etc/credstore", "700")],
        files=_files(site, configuration, {name: CREDENTIALS[name] for name in MIGRATION}),
    )
    barrier(name="Every app host has the release")

    migrated(name="Migrate the schema", needed=first_of_this_run(machine, site.having("app")))
    barrier(name="The schema is the release's")

    seen = {name: secrets for name, secrets in _credentials(site).items() if name not in MIGRATION}
    provider = _provider(site)
    ensure(
        name="Run API, worker and follower",
        files=[*_files(site, configuration, seen), *provider],
        absent=[] if site.oidc else [PROVIDER_AUTHORITY, credential(PROVIDER_SECRET, "").path],
        units=[
            Unit(
                "rag-api.service",
                reads=(*_read_by("rag-api", seen, certificate), *(file.path for file in provider)),
                in_turn=True,
            ),
            Unit("rag-worker.service", reads=_read_by("rag-worker", seen, certificate)),
            Unit("rag-index.service", reads=_read_by("rag-index", seen, certificate)),
        ],
        check=Check(f"curl --fail --silent http://127.0.0.1:{network.API.backend}/health/ready", seconds=120),
    )
    if site.oidc:
        authority = PROVIDER_AUTHORITY if site.oidc.ca_file else ""
        described(name="The provider describes itself", issuer=site.oidc.issuer, authority=authority)


def _files(site: Site, configuration: bytes, seen: dict[str, tuple[str, ...]]) -> list[File]:
    """What these units read: their settings, their secrets and themselves."""
    configs = {unit: MIGRATION.get(unit, CONFIG) for unit in seen}
    return [
        *(File(path, configuration) for path in dict.fromkeys(configs.values())),
        *(credential(name, site.secret(name)) for name in dict.fromkeys(chain(*seen.values()))),
        *(
            File(
                _file_of(unit),
                rendered(
                    f"app/{unit}.service.j2", site=site, release=APP.id, config=configs[unit], credentials=credentials
                ),
            )
            for unit, credentials in seen.items()
        ),
    ]


def _ports() -> dict[str, int]:
    return {
        "api": network.API.backend,
        "worker_metrics": network.WORKER_METRICS.backend,
        "index_metrics": network.INDEX_METRICS.backend,
        "chroma": network.CHROMA,
        "inference": network.INFERENCE_POOL,
        "postgresql": network.POSTGRESQL,
    }


def _file_of(unit: str) -> str:
    return f"/etc/systemd/system/{unit}.service"


def _credentials(site: Site) -> dict[str, tuple[str, ...]]:
    return CREDENTIALS | ({"rag-api": (*CREDENTIALS["rag-api"], PROVIDER_SECRET)} if site.oidc else {})


def _provider(site: Site) -> list[File]:
    """What the provider is verified by, where Debian's CAs do not."""
    file = site.oidc.ca_file if site.oidc else None
    return [File(PROVIDER_AUTHORITY, file.read_bytes())] if file else []


def _read_by(unit: str, seen: dict[str, tuple[str, ...]], certificate: Certificate) -> tuple[str, ...]:
    secrets = (f"/etc/credstore/{name}" for name in seen[unit])
    return (CONFIG, _file_of(unit), *secrets, certificate.certificate)


@operation()
def migrated(needed: bool) -> Commands:
    """
    Bring the schema to the release's, and make the first administrator.

    + needed: this machine is the one that migrates
    """
    unit = "rag-migrate.service"
    # A check that says no is no failure of the machine's.
    check = "systemctl start rag-migrate-check || { systemctl reset-failed rag-migrate-check; false; }"
    if not needed or host.get_fact(Command, f"{{ {check}; }} >/dev/null 2>&1 && echo yes || echo no") == "yes":
        host.noop("the schema is the release's")
        return
    yield StringCommand(
        f"systemctl daemon-reload; systemctl restart {unit} || {{ journalctl --no-pager -u {unit} -n 15 >&2; exit 1; }}"
    )
