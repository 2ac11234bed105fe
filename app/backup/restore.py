"""
Verb ``restore``: the database as it was at a moment, out of the repositories, in a folder of its own beside production.

What is wanted stands in run/restore.json; what became of it is told in scratch/restored/restored.json.
rag-restored.service runs this before it starts the server, and empties the folder when it ends.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2

from app.backup import leftovers, manifest, recovered, restic, spool
from app.backup.choice import PROOF, Choice, OutsideError, believed, choose, later, said, with_earlier
from app.backup.recoveries import recoveries_of
from app.backup.restic import Snapshot
from app.backup.room import Room, RoomError, kept
from app.backup.settings import Kind, Settings

PORT = 5433
PATIENCE = 24 * 3600.0
"""Seconds for a recovery: hours of log are replayed about as fast as they are read."""
COUNTED = ("users", "collections", "documents", "passages", "audit")
TOO_LATE = "before configured recovery target was reached"


class RefusedError(Exception):
    """Nothing was begun; the message is one line."""


@dataclass(frozen=True)
class Request:
    """What is wanted."""

    to: datetime | None = None
    """None: the newest moment."""
    base: str = ""
    log: str = ""
    """Snapshots by id, where the moment alone does not name them."""
    members: dict[str, str] = field(default_factory=dict)
    """Database machine to its address: these may copy the server."""


def request_of(text: str) -> Request:
    """Read the request; a moment without a zone would mean another one on another machine."""
    told = json.loads(text)
    to = datetime.fromisoformat(told["to"]) if told.get("to") else None
    if to is not None and to.tzinfo is None:
        raise RefusedError(f"to = {told['to']}; a moment with its zone is needed; make restore writes it")
    return Request(to, told.get("base", ""), told.get("log", ""), dict(told.get("members", {})))


def listen_of(settings: Settings, members: dict[str, str]) -> recovered.Listen:
    """
    The machines that may copy the server come by their certificate, and as the role of replicas alone.

    Each machine holds certificates of several services, and only PostgreSQL's is the key to all data.
    """
    return recovered.Listen(
        addresses="*",
        hba=tuple(
            f"hostssl replication replicator {each}/32 cert clientname=DN map=members" for each in members.values()
        ),
        ident=tuple(f'members "CN={name},OU=postgresql" replicator' for name in members),
        certificate=settings.cluster.ssl_cert,
        key=settings.cluster.ssl_key,
        authority=settings.cluster.ssl_root_cert,
    )


def folder_of(settings: Settings) -> Path:
    """Where the recovered data and their server lie."""
    return settings.scratch / "restored"


def opened(settings: Settings, kind: Kind) -> restic.Repository:
    """The repository of that kind, with the key that the unit was given."""
    held = Path(os.environ["CREDENTIALS_DIRECTORY"]) / "repository-password"
    return restic.Repository(str(settings.folder / "repositories" / kind), held)


def known_of(settings: Settings, kind: Kind) -> list[Snapshot]:
    """The snapshots of that kind, oldest first, without those that a wrong clock made ones of a time to come."""
    now, known = datetime.now(UTC), restic.snapshots(opened(settings, kind), tag=kind)
    found = believed(known, now)
    if known and not found:
        raise OutsideError(f"clock = {said(now)}, before all backups; the right time is needed; chronyc tracking")
    return found


def run(settings: Settings) -> int:
    """Bring the moment back and stop the server again, ready to be started; exit code 1 failed, 2 refused."""
    folder = folder_of(settings)
    try:
        wanted = request_of((settings.run / "restore.json").read_text(encoding="utf-8"))
        with kept(settings, "rag-restored") as room:
            told = restored(settings, wanted, folder, room)
    except (OutsideError, RefusedError, RoomError, OSError, KeyError, ValueError) as refused:
        print(f"restore = refused; {refused}", flush=True)
        return 2
    except (restic.RepositoryError, recovered.RecoveryError, psycopg2.Error) as problem:
        print(f"restore = failed; {' '.join(str(problem).split())}", flush=True)
        return 1
    draft = folder / "restored.new"
    draft.write_text(json.dumps(told, indent=2))
    draft.replace(folder / "restored.json")
    print(
        f"restored to {told['reached'] or 'a database without canaries'} in {sum(told['seconds'].values()):.1f} s: "
        + ", ".join(f"{count} {name}" for name, count in told["rows"].items()),
        flush=True,
    )
    return 0


def restored(settings: Settings, wanted: Request, folder: Path, room: Room) -> dict[str, Any]:
    """Lay base and log into ``folder``, recover to the moment, and say what is there."""
    marks = Marks()
    bases, logs = known_of(settings, "base"), known_of(settings, "wal")
    recoveries = recoveries_of(settings)
    choice = named(wanted, bases, logs) if wanted.log else choose(bases, logs, wanted.to, recoveries)
    if folder.exists():
        leftovers.end_left(folder)
    shutil.rmtree(folder, ignore_errors=True)
    room.more((folder, sum(one.bytes for one in (*bases, *logs) if one.id in {choice.base, *choice.log})))
    folder.mkdir(mode=0o700, parents=True)
    marks.set("choose")

    # restic compares each piece with its hash as it reads it. That all of it reached the disk, PostgreSQL's own list of
    # its files tells in a tenth of the time that restic's --verify takes; and each record of the log has its checksum.
    size = restic.restore(opened(settings, "base"), choice.base, folder, verify=False)
    recovered.verified(folder)
    print(f"base {choice.base[:8]}: {size / 1e6:.0f} MB in {marks.set('base'):.1f} s", flush=True)
    size += lay_log(settings, choice, folder / "wal")
    if lacking(folder, choice.target):
        choice = with_earlier(choice, bases, logs)
        room.more((folder, restic.bytes_of(opened(settings, "wal"), choice.log)))
        size += lay_log(settings, choice, folder / "wal")
    if why := lacking(folder, choice.target):
        raise recovered.RecoveryError(f"log = {why}; all of it since the base is needed; make restore with another TO")
    print(f"log of {len(choice.log)} snapshots: {marks.set('log'):.1f} s", flush=True)

    server, choice = recover(settings, wanted, choice, later(choice, logs, recoveries), folder, room)
    try:
        told = rows_of(server)
    finally:
        server.stop()
    marks.set("recover")
    return {
        "to": said(wanted.to) if wanted.to else "latest",
        "base": choice.base,
        "log": list(choice.log),
        "bytes": size,
        "seconds": marks.seconds,
        **told,
    }


def named(wanted: Request, bases: Sequence[Snapshot], logs: Sequence[Snapshot]) -> Choice:
    """The snapshots that the request names: a recovery in place wrote them down."""
    base = wanted.base or next((each.id for each in reversed(bases)), "none")
    found = []
    for one, known in ((base, bases), (wanted.log, logs)):
        # On a host that is built anew each is a copy, with another id.
        here = next((each.id for each in known if one in {each.id, each.original}), None)
        if here is None:
            raise OutsideError(
                f"snapshot = {one[:8]}, not in the repository; one that is there; make restore with a moment as TO"
            )
        found.append(here)
    return Choice(found[0], (found[1],), None)


def lacking(folder: Path, target: datetime | None = None) -> str:
    """
    What of the log is missing between the base and the log's end, in words; empty: nothing.

    For a moment its beginning is enough, since what is missing may come after it; if not, recovery does not reach it.
    """
    label = (folder / "data" / "backup_label").read_text(encoding="utf-8")
    begins = re.search(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+)", label, re.MULTILINE)
    found = spool.examine(folder / "wal")
    since = found.whole_since
    if begins is None or since is None:
        return "a base without its beginning" if since is not None else "nothing there"
    start = spool.position(begins[1])
    begun = any(one.start <= start < one.start + spool.SEGMENT_BYTES for one in found.segments)
    if since <= start or (target and begun):
        return ""
    return f"missing {found.gaps[-1]}" if found.gaps else f"missing before {found.segments[0].name}"


def lay_log(settings: Settings, choice: Choice, folder: Path) -> int:
    """One snapshot over the other, oldest first, so that what is there twice is the newer one."""
    folder.mkdir(exist_ok=True)
    return sum(restic.restore(opened(settings, "wal"), each, folder, verify=False) for each in choice.log)


def recover(
    settings: Settings, wanted: Request, choice: Choice, more: Sequence[tuple[str, ...]], folder: Path, room: Room
) -> tuple[recovered.Server, Choice]:
    """
    A server at that moment, promoted, and what it was made of.

    Log that does not reach the moment gets what is ``more``. At its very end there may be no write to stop before: that
    it ends where it should is told by its last one.
    """
    for stage in ((), *more) if choice.target else ():
        choice = Choice(choice.base, (*choice.log, *stage), choice.target)
        if stage:
            room.more((folder, restic.bytes_of(opened(settings, "wal"), stage)))
        lay_log(settings, Choice(choice.base, stage, None), folder / "wal")
        try:
            return started(settings, wanted, choice.target, folder), choice
        except recovered.RecoveryError as problem:
            if TOO_LATE not in str(problem):
                raise
    server = started(settings, wanted, None, folder)
    if choice.target and (why := short_of(choice.target, server.ended(), folder)):
        server.stop()
        raise recovered.RecoveryError(why)
    return server, choice


def started(settings: Settings, wanted: Request, target: datetime | None, folder: Path) -> recovered.Server:
    """A server that has recovered to the target, or to the end of the log."""
    listen = listen_of(settings, wanted.members)
    server = recovered.prepared(folder, folder / "wal", target, port=PORT, listen=listen)
    server.start(PATIENCE)
    return server


def short_of(target: datetime, ended: datetime | None, folder: Path) -> str:
    """Why the end of the log is not the moment that is wanted; empty: it is, as far as canaries tell."""
    if ended and ended >= target - PROOF:
        return ""
    last = f"the last write in the log is of {said(ended)}" if ended else "the log holds no write"
    gaps = spool.examine(folder / "wal").gaps
    last += f", missing {gaps[0]}" if gaps else ""
    until = f"one until {said(ended)} or latest" if ended else "latest"
    return f"TO = {said(target)}; {last}, a moment that it reaches is needed, {until}; make restore with one of these"


def rows_of(server: recovered.Server) -> dict[str, Any]:
    """What the recovered database holds, to be compared with what a cluster holds that copied it."""
    with psycopg2.connect(server.dsn("rag")) as link, link.cursor() as cursor:
        rows = {table: manifest.rows_of(cursor, table) for table in COUNTED}
        cursor.execute("select to_regclass('canaries') is not null")
        number, at = 0, None
        if cursor.fetchone()[0]:
            cursor.execute("select coalesce(max(number), 0), max(at) from canaries")
            number, at = cursor.fetchone()
        cursor.execute("select version_num from alembic_version")
        schema = cursor.fetchone()[0]
        cursor.execute("select timeline_id from pg_control_checkpoint()")
        timeline = cursor.fetchone()[0]
        cursor.execute("select pg_database_size('rag')")
        size = cursor.fetchone()[0]
    return {
        "rows": rows,
        "canary": number,
        "reached": said(at) if at else "",
        "schema": schema,
        "timeline": timeline,
        "size": size,
    }


@dataclass
class Marks:
    """Seconds of each phase."""

    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def set(self, phase: str) -> float:
        """The phase is over; how long it took."""
        now = time.monotonic()
        self.seconds[phase], self.began = round(now - self.began, 2), now
        return self.seconds[phase]
