"""The backup host: receives the log without a pause, keeps copies that are proven to come back, deletes no data."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.facts.server import Command

from inventories import network, secrets
from inventories.backup import SECOND_KEY
from inventories.certificates import AUTHORITY, certificate_of
from inventories.escrow import offline_password, push_password
from inventories.settings import Machine, Site
from tasks.archives import unpacked
from tasks.operations import Commands, ensure
from tasks.release import APP, CHROMA, ROOT, built
from tasks.wants import Check, Directory, File, Unit, User, credential, rendered, verbatim

CONFIG = "/etc/rag/backup.toml"
FOLDER = "/var/lib/rag-backup"
USER = "rag-backup"
FOLDERS = ("spool", "repositories", "pushed", "base", "scratch", "site", "run", "aside", "drills")
SECRETS = ("backup-password", "repository-password", "drill-password")
ELSEWHERE = ("second-repository-environment", SECOND_KEY)
SECOND_CA = "/etc/rag/second-repository-ca.crt"
SECOND_HOST = "/etc/rag/second-repository-known_hosts"
TEXTFILE = "/var/lib/prometheus/node-exporter/rag_backup_wal.prom"
COPY_FIGURES = "/var/lib/prometheus/node-exporter/rag_backup_copy.prom"


@dataclass(frozen=True)
class Work:
    """One unit of the backup host that does its work and ends."""

    name: str
    verb: str
    what: str
    credentials: tuple[str, ...]
    at: str | None = None
    """OnCalendar= of its timer; empty: every few seconds; None: it has none."""
    hours: int = 4
    again: bool = False
    """It tries again by itself when it failed."""
    alone: bool = False
    """It has no network."""
    gentle: bool = True
    """It gives way to everything else on its machine."""
    afterwards: str = ""
    """A command after its end."""
    stays: bool = False
    """It counts as running when it is done, and is done at every start of the machine."""


def works(site: Site) -> list[Work]:
    """What the site's backup host does, and when."""
    wanted, service, database = site.backup, ("repository-password",), ("backup-password", "repository-password")
    made = [
        Work("rag-repositories", "init", "the repositories and their keys", SECRETS[1:], stays=True),
        Work(
            "rag-backup", "backup", "the received log goes into the repository", service, at="", hours=1, gentle=False
        ),
        Work("rag-base", "base", "a base backup", database, at=wanted.base_at, hours=13, again=True),
        Work("rag-dump", "dump", "a logical copy", database, at=wanted.dump_at, hours=13),
        Work(
            "rag-maintain",
            "maintain",
            "what is too old goes, the rest is read",
            service,
            wanted.maintain_at,
            24,
            # What others may push is counted when the server starts: what was given back is room only then.
            afterwards="/usr/bin/systemctl --no-block try-restart rag-rest.service",
        ),
        Work("rag-drill", "drill", "a restore drill", SECRETS[1:], wanted.drill_at, alone=True),
        Work(
            "rag-drill-weekly", "drill --weekly", "the long drill", SECRETS[1:], wanted.weekly_drill_at, 12, alone=True
        ),
    ]
    if wanted.second_repository:
        made.append(Work("rag-copy", "copy", "the second repository", (*service, *_given(site)), wanted.copy_at, 24))
    return made


@deploy("Backup")
def backup(site: Site, machine: Machine) -> None:
    """Nothing here deletes what is received or kept: folders are made where they lack, and never emptied."""
    for release, folder in ((APP, "/opt/rag"), (CHROMA, "/opt/chroma")):
        unpacked(
            name=f"Unpack {folder}",
            folder=folder,
            release=release.id,
            archive=partial(built, release),
            ssh=site.ssh,
            machine=machine,
            after="python3 -m compileall -q -j 0 lib $(test -d app && echo app) || true",
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
        second={"ca": SECOND_CA, "known_hosts": SECOND_HOST},
    )
    given, known = _given(site), _server_known(site)
    ensure(
        name="Configure the backups",
        users=[User(USER, home=FOLDER)],
        directories=[
            Directory("/etc/credstore", "700"),
            # Root works in the folders in it: whose they are must not put a link in the place of one. rag-rest is of
            # another group and passes through.
            Directory(FOLDER, "751", "root", USER),
            *(Directory(f"{FOLDER}/{name}", "700", USER, USER) for name in FOLDERS),
        ],
        files=[
            File(CONFIG, configuration),
            *(credential(name, site.secret(name)) for name in SECRETS),
            # A private key ends with its last line.
            *(credential(name, f"{site.secret(name)}\n") for name in given),
            *known,
            *_site_state(site),
        ],
        absent=[
            *(credential(name, "").path for name in ELSEWHERE if name not in given),
            *({SECOND_CA, SECOND_HOST} - {file.path for file in known}),
        ],
    )

    wal, rest, made = (f"/etc/systemd/system/rag-{name}.service" for name in ("wal", "rest", "repositories"))
    files = {
        wal: rendered("backup/rag-wal.service.j2", release=APP.id, config=CONFIG),
        rest: rendered("backup/rag-rest.service.j2", pushed_bytes=site.backup.pushed_mb * 1024 * 1024),
        # A person starts it, by make restore.
        "/etc/systemd/system/rag-restored.service": rendered(
            "backup/rag-restored.service.j2", release=APP.id, config=CONFIG, version=site.database.version
        ),
    } | _units(site)
    ensure(
        name="Receive the log",
        files=[File(path, text) for path, text in files.items()],
        # Its last figures would tell of a failure for ever.
        absent=[]
        if site.backup.second_repository
        else [*(f"/etc/systemd/system/rag-copy.{kind}" for kind in KINDS), COPY_FIGURES],
        units=[
            Unit("rag-repositories.service", reads=(CONFIG, made, *(f"/etc/credstore/{name}" for name in SECRETS[1:]))),
            Unit("rag-wal.service", reads=(CONFIG, wal, "/etc/credstore/backup-password", certificate.certificate)),
            Unit("rag-rest.service", reads=(rest,)),
        ],
        check=Check(f"systemctl is-active rag-wal && grep -q '^rag_backup_wal_receiving 1' {TEXTFILE}", seconds=90),
    )

    keyed(
        name="Let the key that lies offline open the repositories",
        repositories=f"{FOLDER}/repositories",
        arguments="--offline",
        password=offline_password(secrets.age_key_of(site.name)),
    )
    if site.backup.second_repository:
        keyed(
            name="Let the key that lies offline open the second repository",
            repositories=f"{FOLDER}/repositories",
            mark=".keyed-second",
            arguments="--elsewhere",
            password=offline_password(secrets.age_key_of(site.name)),
            place=site.backup.second_repository,
            credentials=given,
            # Its server may be away, and what is deployed may be what lets it in again; rag-copy goes on telling.
            _ignore_errors=True,
        )
    for peer in site.having("etcd"):
        keyed(
            name=f"Give {peer.name} a repository to push into",
            repositories=f"{FOLDER}/pushed/{peer.name}",
            arguments=f"--client {peer.name}",
            password=push_password(site.secret("push-password"), peer.name),
        )

    timers = [path for path in files if path.endswith((".timer", ".path"))]
    ensure(
        name="Back up, maintain and drill by themselves",
        units=[Unit(Path(path).name, reads=(path,)) for path in timers],
    )


KINDS = ("service", "timer")


def _given(site: Site) -> tuple[str, ...]:
    """What the second repository's server wants of us."""
    return tuple(name for name in ELSEWHERE if name in site.secrets)


def _server_known(site: Site) -> list[File]:
    """By what its server is known, where the site says so."""
    key = " ".join(site.backup.second_repository_host_key.split()[:2])
    texts = {SECOND_CA: site.backup.second_repository_ca, SECOND_HOST: f"second-repository {key}\n" if key else ""}
    return [File(path, text.encode()) for path, text in texts.items() if text]


def _units(site: Site) -> dict[str, bytes]:
    """The units of all works, by path."""
    made = {"/etc/systemd/system/rag-base.path": verbatim("backup/rag-base.path")}
    for work in works(site):
        path, values = f"/etc/systemd/system/{work.name}", {"work": work, "seconds": site.backup.wal_seconds}
        made[f"{path}.service"] = rendered("backup/rag-work.service.j2", release=APP.id, config=CONFIG, **values)
        if work.at is not None:
            made[f"{path}.timer"] = rendered("backup/rag-work.timer.j2", **values)
    return made


def _site_state(site: Site) -> list[File]:
    """What a rebuild needs beside the data: the site's own files, its encrypted secrets, and what runs there."""
    state = {
        "site": site.name,
        "revision": _revision(),
        "releases": {release.name: release.id for release in (APP, CHROMA)},
        "ollama": {"version": site.inference.version, "archive_sha256": site.inference.archive_sha256},
        "models": {model.name: model.digest for model in site.inference.models},
    }
    kept = {
        "inventory": ROOT / "inventories" / site.name,
        "secrets.age": secrets.file_of(site.name),
        "known_hosts": site.ssh.known_hosts,
    }
    files = {name: path.read_bytes() for name, path in kept.items() if path.is_file()}
    files["state.json"] = f"{json.dumps(state, indent=1, sort_keys=True)}\n".encode()
    return [File(f"{FOLDER}/site/{name}", content, "600", USER, USER) for name, content in files.items()]


@cache
def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


@operation()
def keyed(
    repositories: str,
    arguments: str,
    password: str,
    mark: str = ".keyed",
    place: str = "",
    credentials: tuple[str, ...] = (),
) -> Commands:
    """
    Let a further password open repositories, once: it goes over standard input, and this machine does not keep it.

    + repositories: the folder that they lie in; a file there remembers for which password it was done
    + arguments: of the program's verb ``init``
    + password: at least 32 characters
    + mark: that file's name
    + place: where they lie instead, on another host
    + credentials: what the verb gets to see besides the service's key
    """
    path, finger = f"{repositories}/{mark}", hashlib.sha256(f"{password}{place}".encode()).hexdigest()[:16]
    done = (
        f'test "$(cat {path} 2>/dev/null)" = {finger} && '
        f'test -z "$(find {repositories} -mindepth 2 -maxdepth 2 -name config -newer {path})" '
        "&& echo yes || echo no"
    )
    if host.get_fact(Command, done) == "yes":
        host.noop("the repositories have the key")
        return
    release = f"/opt/rag/releases/{APP.id}"
    loaded = " ".join(
        f"--property=LoadCredential={name}:/etc/credstore/{name}" for name in ("repository-password", *credentials)
    )
    yield StringCommand(
        f"systemd-run --quiet --pipe --wait --collect --uid={USER} --working-directory={release} {loaded} "
        f"--setenv=PYTHONPATH={release}/lib:{release} --setenv=RAG_BACKUP_CONFIG={CONFIG} "
        f"--setenv=PYTHONDONTWRITEBYTECODE=1 python3 -m app.backup init {arguments} && "
        f"runuser -u {USER} -- sh -c 'rm -f {path} && echo {finger} > {path}'",
        _stdin=f"{password}\n",
    )
