"""Verb `dump`: a logical copy, which what damages the files of a database in silence does not reach."""

import os
import subprocess
from collections.abc import Sequence
from typing import Literal

from app.backup import restic
from app.backup.base import sources
from app.backup.metrics import BackupError, Figures, Outcome, recorded, say
from app.backup.passfile import passfile
from app.backup.repositories import own
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.room import kept
from app.backup.settings import Settings

NAME = "rag.dump"
LONGEST_SECONDS = 12 * 3600.0


def run(settings: Settings) -> int:
    """Exit code 0 when the repository holds a new one that pg_restore reads to its end."""
    return recorded(settings, "dump", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    repository = own(settings, "dump")
    with kept(settings, "rag-dump") as room:
        # The repository may know nothing of it yet; where nobody tells a size, pg_dump says who does not answer.
        room.more((settings.repository("dump"), max((host.bytes for host in sources(settings)), default=0)))
        taken = _taken(settings, repository)
    tables = _read(settings, repository, taken.id)
    figures: Figures = {
        "rag_backup_dump_bytes": ("Size of the last logical copy.", taken.bytes),
        "rag_backup_dump_tables": ("Tables in it.", tables),
    }
    words = f"{tables} tables, {taken.bytes / 1e6:.0f} MB, {taken.packed / 1e6:.0f} MB added, snapshot {taken.id[:8]}"
    return Outcome(True, words, figures)


def _taken(settings: Settings, repository: Repository) -> Snapshot:
    try:
        return _from(settings, repository, "prefer-standby")
    except RepositoryError as error:
        if error.kind == "full":
            raise
        # A replica ends a long question that stands in the way of what it replays.
        say(f"{error}; once more from the primary")
    return _from(settings, repository, "read-write")


def _from(settings: Settings, repository: Repository, target: Literal["prefer-standby", "read-write"]) -> Snapshot:
    cluster = settings.cluster
    dsn = cluster.dsn(target, database=cluster.name, program="rag-dump")
    # Not compressed: restic finds again what it has, and compresses by itself.
    command = [str(cluster.programs / "pg_dump"), "--dbname", dsn, "--no-password", "--format=custom", "--compress=0"]
    with passfile() as secret:
        return restic.backup_output(
            repository, NAME, command, tags=["dump"], environment=secret, seconds=LONGEST_SECONDS
        )


def _read(settings: Settings, repository: Repository, snapshot_id: str) -> int:
    """Read it back from the repository to its end; how many tables have their data in it."""
    program = str(settings.cluster.programs / "pg_restore")
    _piped(repository, snapshot_id, [program, "--file=/dev/null"])
    listed = _piped(repository, snapshot_id, [program, "--list"])
    tables = sum(" TABLE DATA " in line for line in listed.splitlines())
    if not tables:
        raise BackupError(f"dump {snapshot_id[:8]} = no tables; those of the database; systemctl start rag-dump")
    return tables


def _piped(repository: Repository, snapshot_id: str, command: Sequence[str]) -> str:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "RESTIC_REPOSITORY": repository.location,
        "RESTIC_PASSWORD_FILE": str(repository.password_file),
    }
    dump = ["restic", "--no-cache", "--quiet", "--retry-lock=2m", "dump", snapshot_id, f"/{NAME}"]
    with subprocess.Popen(dump, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as source:
        done = subprocess.run(
            command, stdin=source.stdout, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
        assert source.stdout is not None and source.stderr is not None  # noqa: S101, PT018 - pipes, for the type checker
        source.stdout.close()
        said = source.stderr.read().decode(errors="replace")
    # Who lists the tables stops reading after them.
    if done.returncode or (source.returncode and "--list" not in command):
        words = " ".join((done.stderr or said).split())[-200:]
        raise BackupError(
            f"dump {snapshot_id[:8]} = not readable to its end, {words}; one that is; systemctl start rag-dump"
        )
    return done.stdout
