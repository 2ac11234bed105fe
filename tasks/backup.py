"""The backup host: receives the log without a pause, keeps copies that are proven to come back, deletes no data."""

from functools import partial

from pyinfra.api import deploy

from inventories import network
from inventories.certificates import AUTHORITY, certificate_of
from inventories.settings import Machine, Site
from tasks.archives import unpacked
from tasks.operations import ensure
from tasks.release import APP, CHROMA, built
from tasks.wants import Check, Directory, File, Unit, User, credential, rendered

CONFIG = "/etc/rag/backup.toml"
FOLDER = "/var/lib/rag-backup"
USER = "rag-backup"
FOLDERS = ("spool", "repositories", "pushed", "base", "scratch", "site", "run", "aside")
SECRETS = ("backup-password", "repository-password", "drill-password")
TEXTFILE = "/var/lib/prometheus/node-exporter/rag_backup_wal.prom"


@deploy("Backup")
def backup(site: Site, machine: Machine) -> None:
    """Nothing here deletes what is received or kept: folders are made when they lack, and never touched again."""
    for release, folder in ((APP, "/opt/rag"), (CHROMA, "/opt/chroma")):
        unpacked(
            name=f"Unpack {folder}",
            folder=folder,
            release=release.id,
            archive=partial(built, release),
            ssh=site.ssh,
            machine=machine,
            after="python3 -m compileall -q -j 0 lib app || true",
        )

    certificate = certificate_of(site, machine, "backup")
    configuration = rendered(
        "backup/backup.toml.j2",
        site=site,
        release=APP.id,
        chroma=CHROMA.id,
        authority=AUTHORITY,
        certificate=certificate,
        ports={"postgresql": network.POSTGRESQL, "inference": network.INFERENCE_POOL},
    )
    ensure(
        name="Configure the backups",
        users=[User(USER, home=FOLDER)],
        directories=[
            Directory("/etc/credstore", "700"),
            Directory(FOLDER, "700", USER, USER),
            *(Directory(f"{FOLDER}/{name}", "700", USER, USER) for name in FOLDERS),
        ],
        files=[
            File(CONFIG, configuration),
            # A person starts it, by make restore.
            _unit("rag-restored", version=site.database.version),
            *(credential(name, site.secret(name)) for name in SECRETS),
        ],
    )

    unit = "/etc/systemd/system/rag-wal.service"
    ensure(
        name="Receive the log",
        files=[File(unit, rendered("backup/rag-wal.service.j2", release=APP.id, config=CONFIG))],
        units=[
            Unit("rag-wal.service", reads=(CONFIG, unit, "/etc/credstore/backup-password", certificate.certificate))
        ],
        check=Check(f"systemctl is-active rag-wal && grep -q '^rag_backup_wal_receiving 1' {TEXTFILE}", seconds=90),
    )


def _unit(name: str, **values: object) -> File:
    content = rendered(f"backup/{name}.service.j2", release=APP.id, config=CONFIG, **values)
    return File(f"/etc/systemd/system/{name}.service", content)
