"""Verb `backup`: the received log and the site's state into their repositories, every few seconds."""

import hashlib
import json
import time
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from app.backup import restic, spool
from app.backup.choice import believed, last_of_hours
from app.backup.metrics import Figures, Outcome, recorded
from app.backup.recoveries import put_with_site
from app.backup.repositories import own
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.settings import Settings

SITE_SECONDS = 24 * 3600
# The first copy of a full spool takes long, every later one about a second.
LONGEST_SECONDS = 1800.0


def run(settings: Settings) -> int:
    """Exit code 0 when the repository holds what the spool held."""
    return recorded(settings, "snapshot", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    wal = own(settings, "wal")
    taken = _spool_taken(settings, wal)
    trimmed = _trimmed(settings, wal) if taken else 0
    site = _site_taken(settings)
    words = [f"{taken.files} files of the log, {_mb(taken.packed)} added" if taken else "no new log"]
    words += [f"{trimmed} old segments left the spool"] if trimmed else []
    words += ["the site's state too"] if site else []
    figures: Figures = {
        "rag_backup_snapshot_added_bytes": ("Bytes that the last copy of the log added.", taken.packed if taken else 0),
    }
    return Outcome(True, ", ".join(words), figures)


def _spool_taken(settings: Settings, wal: Repository) -> Snapshot | None:
    try:
        return restic.backup(wal, settings.spool, tags=["wal"], skip_unchanged=True, seconds=LONGEST_SECONDS)
    except RepositoryError as error:
        # A segment that is full gets its last name while restic reads: under the first it is gone.
        if error.kind != "partial" or "no such file" not in str(error):
            raise
    return restic.backup(wal, settings.spool, tags=["wal"], skip_unchanged=True, seconds=LONGEST_SECONDS)


def _trimmed(settings: Settings, wal: Repository) -> int:
    """Let go what the newest base backup does not need, when a snapshot that maintenance keeps holds it."""
    base = spool.base_of(settings)
    if base is None:
        return 0
    old = _before(settings, base.start)
    kept = _kept(wal) if old else None
    if kept is None:
        return 0
    held = restic.files_of(wal, kept.id)
    # The spool stays without a gap: nothing goes that is newer than something which stays.
    return spool.trim(settings.spool, takewhile(lambda one: held.get(one.name) == spool.SEGMENT_BYTES, old))


def _kept(wal: Repository) -> Snapshot | None:
    """The last snapshot of the last hour that is over: of each hour the last one stays, and no other comes after it."""
    lasts = last_of_hours(believed(restic.snapshots(wal, tag="wal"), datetime.now(UTC)))
    return lasts[-2] if len(lasts) > 1 else None


def _before(settings: Settings, start: int) -> list[spool.Segment]:
    """Segments that end before that place, oldest first, up to the first of this hour: no snapshot of it stays yet."""
    known = sorted(spool.examine(settings.spool).segments, key=lambda one: one.number)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0).timestamp()

    def may_go(one: spool.Segment) -> bool:
        return one.start + spool.SEGMENT_BYTES <= start and (settings.spool / one.name).stat().st_mtime < hour

    return list(takewhile(may_go, known))


def _site_taken(settings: Settings) -> bool:
    """Take the site's state when it is another than the one taken last, and once a day."""
    put_with_site(settings)
    folder, note = settings.site_folder, settings.run / "site-taken.json"
    if not any(folder.iterdir()):
        return False
    now = _digest(folder)
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        if told["digest"] == now and time.time() - told["at"] < SITE_SECONDS:
            return False
    except (OSError, ValueError, KeyError):
        pass
    restic.backup(own(settings, "site"), folder, tags=["site"], seconds=LONGEST_SECONDS)
    note.write_text(json.dumps({"digest": now, "at": time.time()}), encoding="utf-8")
    return True


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
