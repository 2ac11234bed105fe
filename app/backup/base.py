"""Verb `base`: a base backup, from a replica where one can give it, verified before the repository sees it."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from app.backup import manifest, restic, spool
from app.backup.metrics import BackupError, Figures, Outcome, recorded, say
from app.backup.passfile import passfile
from app.backup.repositories import own
from app.backup.restic import Snapshot
from app.backup.room import Room, kept
from app.backup.settings import Settings
from app.settings import credential

LONGEST_SECONDS = 12 * 3600.0
# A tenth for the log meanwhile.
STAGED = 1.1
STATE = """
select pg_is_in_recovery(),
    (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text,
    (select sum(pg_database_size(oid)) from pg_database)::bigint
"""


@dataclass(frozen=True)
class Source:
    """A PostgreSQL host that could give one."""

    host: str
    standby: bool
    at: int
    bytes: int


def run(settings: Settings) -> int:
    """Exit code 0 when the repository holds a new one that goes together with the spool."""
    return recorded(settings, "base", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    asked = _asked(settings)
    if asked:
        say(f"a base backup was asked for: {asked}")
    try:
        with kept(settings, "rag-base") as room:
            taken, source, log = _staged_and_taken(settings, room)
    finally:
        _emptied(settings.staging)
    _noted(settings, log)
    # Whatever came up meanwhile asks for the next one.
    if _asked(settings) == asked:
        settings.base_wanted.unlink(missing_ok=True)
    figures: Figures = {
        "rag_backup_base_bytes": ("Size of the last base backup.", taken.bytes),
        "rag_backup_base_added_bytes": ("What it added to the repository.", taken.packed),
        "rag_backup_base_from_primary": ("1: no replica could give it.", float(not source.standby)),
    }
    giver = "replica" if source.standby else "primary"
    words = f"{taken.bytes / 1e6:.0f} MB from {source.host} ({giver}), {taken.packed / 1e6:.0f} MB added, snapshot"
    return Outcome(True, f"{words} {taken.id[:8]}, from {log.start} on", figures)


def _asked(settings: Settings) -> str:
    """Why one is wanted at once; empty: nobody wants one."""
    with contextlib.suppress(OSError):
        return settings.base_wanted.read_text(encoding="utf-8").strip()
    return ""


def _staged_and_taken(settings: Settings, room: Room) -> tuple[Snapshot, Source, manifest.Range]:
    source = chosen(sources(settings), primary=settings.base_wanted.exists())
    log = _staged(settings, source, room)
    since = spool.examine(settings.spool).whole_since
    if source.standby and since is not None and spool.position(log.start) < since:
        # A replica begins at its last restart point, which may lie before the spool's beginning.
        say(
            f"base = from {source.host} it begins at {log.start}, before the spool does; taken from the primary instead"
        )
        source = chosen(sources(settings), primary=True)
        log = _staged(settings, source, room)
    try:
        counts = manifest.counted(settings)
    except psycopg2.Error as error:
        said = " ".join(str(error).split())[:200]
        raise BackupError(f"rows on the primary = not counted, {said}; a primary that answers; make cluster") from None
    manifest.write(settings.staging / manifest.NAME, settings, counts, log, source.host)
    # What the manifest names, the manifest, pg_wal's segments and ours.
    least = manifest.files_of(settings.staging / "data") + 2
    taken = restic.backup(
        own(settings, "base"), settings.staging, tags=["base"], least_files=least, seconds=LONGEST_SECONDS
    )
    assert taken is not None  # noqa: S101 - unchanged ones are taken too, for the type checker
    return taken, source, log


def sources(settings: Settings) -> list[Source]:
    """Every host that answers; raise BackupError with the last one's reason when none does."""
    found, reason = [], ""
    for host in settings.cluster.hosts:
        try:
            session = psycopg2.connect(
                settings.cluster.dsn("any", database=settings.cluster.name, program="rag-base", host=host),
                password=credential("backup-password"),
            )
        except psycopg2.Error as error:
            reason = " ".join(str(error).split())[:200]
            continue
        with contextlib.closing(session), session.cursor() as cursor:
            cursor.execute(STATE)
            standby, at, size = cursor.fetchone()
            if at is not None:
                found.append(Source(host, standby, spool.position(at), int(size)))
    if not found:
        hosts = ", ".join(settings.cluster.hosts)
        raise BackupError(
            f"database = none that lets us in ({reason or 'no answer'}); one of {hosts}; make cluster SITE=…"
        )
    return found


def chosen(known: Sequence[Source], *, primary: bool = False) -> Source:
    """The replica that is furthest; the primary where there is none, or where it must begin at the present."""
    leaders = [source for source in known if not source.standby]
    standbys = [source for source in known if source.standby]
    of = leaders if primary else standbys or leaders
    if not of:
        wanted = "primary" if primary else "host"
        raise BackupError(f"base = no {wanted} among {len(known)} that answer; a database that runs; make cluster")
    return max(of, key=lambda source: source.at)


def _staged(settings: Settings, source: Source, room: Room) -> manifest.Range:
    """The copy in the staging folder, verified against PostgreSQL's own list of its files."""
    _emptied(settings.staging)
    # The repository may know nothing of it yet.
    room.more((settings.staging, int(source.bytes * STAGED)), (settings.repository("base"), source.bytes))
    data, programs = settings.staging / "data", settings.cluster.programs
    dsn = settings.cluster.dsn("any", program="rag-base", host=source.host)
    _told(
        [
            *(str(programs / "pg_basebackup"), "--dbname", dsn, "--pgdata", str(data), "--no-password"),
            # Staged data that a crash takes are taken again: restic reads them, nobody else.
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync", "--label", "rag-base"),
        ]
    )
    _told([str(programs / "pg_verifybackup"), "--quiet", str(data)])
    return manifest.range_of(data)


def _told(command: Sequence[str]) -> None:
    try:
        with passfile() as secret:
            done = subprocess.run(
                command,
                env={**os.environ, **secret},
                capture_output=True,
                text=True,
                timeout=LONGEST_SECONDS,
                check=False,
            )
        how, said = f"exit {done.returncode}", done.stderr
    except subprocess.TimeoutExpired:
        done, how, said = None, f"not ended in {LONGEST_SECONDS:.0f} s", ""
    if done is None or done.returncode:
        words = " ".join(said.split())[-300:]
        raise BackupError(f"{Path(command[0]).name} = {how}, {words}; a copy that is whole; systemctl start rag-base")


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _noted(settings: Settings, log: manifest.Range) -> None:
    """Where it begins and ends, for whoever watches over the spool."""
    draft = settings.newest_base.with_suffix(".new")
    told = {"system_identifier": log.system, "started_lsn": log.start}
    told |= {"timeline": log.timeline, "stopped_lsn": log.stop}
    draft.write_text(json.dumps(told), encoding="utf-8")
    draft.replace(settings.newest_base)
