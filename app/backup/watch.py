"""Beside the receiver: is it there, how far is it, is the spool whole; and a canary every ten seconds."""

import contextlib
import shutil
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any

import psycopg2

from app.backup import canaries, metrics, primary, spool
from app.backup.canaries import Canary, Memory
from app.backup.metrics import say
from app.backup.notify import notify
from app.backup.primary import Received
from app.backup.settings import Settings

LOOK_SECONDS = 1.0
CANARY_SECONDS = 10.0
# What a restore finds is never older than that.
CANARY_DAYS_BEYOND = 10


@dataclass
class State:
    """What the receiver and its watcher know of each other."""

    receiving: bool = False
    problem: str = "looks for the primary"
    system: int | None = None
    received: Received | None = None
    canary: Canary | None = None
    memory: Memory | None = None
    silent: str = ""
    """Why no canary could be written."""
    uncovered: str = ""
    here: spool.Spool = field(default_factory=spool.Spool)
    last_received: float = 0.0
    looked: float = field(default_factory=time.monotonic)
    """When the watcher looked last, by the clock that no one sets."""
    watched: bool = True
    """False: the watcher broke."""


def watch(settings: Settings, state: State, stopping: threading.Event) -> None:
    """Look until told to stop; whatever fails is looked at again."""
    session: Any = None
    with contextlib.ExitStack() as stack:
        due, blind = 0.0, ""
        while not stopping.wait(LOOK_SECONDS):
            state.looked = time.monotonic()
            singing = time.monotonic() >= due
            if singing:
                due = time.monotonic() + CANARY_SECONDS
            try:
                if session is None:
                    session = stack.enter_context(primary.connected(settings))
                state.received = primary.received(session, settings)
                state.last_received = time.time() if state.received else state.last_received
                if singing:
                    _sing(session, settings, state)
            except psycopg2.Error as error:
                _silent(state, " ".join(str(error).split())[:200])
                state.received = None
                with contextlib.suppress(psycopg2.Error):
                    stack.close()
                session = None
            try:
                if singing:
                    _look(settings, state)
                    metrics.publish(settings, "wal", _figures(settings, state), well=_well(state))
                notify(status=words(settings, state))
            except OSError as error:
                # A full disk, or a file that got its last name just now: the next look tells.
                said = (
                    f"spool = not looked at ({error}); a folder that can be read and written; df -h {settings.folder}"
                )
                if said != blind:
                    say(said)
                blind = said


def _sing(session: Any, settings: Settings, state: State) -> None:
    keep = timedelta(days=settings.retention.days + CANARY_DAYS_BEYOND)
    canary = primary.sing(session, keep)
    if canary is None:
        _silent(state, "a commit that no replica has confirmed")
        return
    if state.silent:
        say(f"canary {canary.number} = written again")
    state.canary, state.silent = canary, ""
    if state.system is not None:
        _remember(settings, state, canary, state.system)


def _remember(settings: Settings, state: State, canary: Canary, system: int) -> None:
    before = state.memory or canaries.read(settings.canaries)
    # What another cluster acknowledged says nothing about this one.
    if before is None or before.system != system:
        before = Memory(system)
    state.memory = before.with_new(canary)
    if gone := [one for one in before.kept if one.number >= canary.number]:
        until = f"{gone[-1].at.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00:00"
        say(
            f"canaries up to {gone[-1].number} of {until} = acknowledged and no longer there, and other writes of that"
            f" time with them; a copy of then shows them; make restore TO='{until}', docs/backup.md"
        )
    with contextlib.suppress(OSError):
        canaries.write(settings.canaries, state.memory)


def _silent(state: State, why: str) -> None:
    if state.silent != why:
        say(f"canary = not written ({why}); a primary that takes writes; make cluster")
    state.silent = why


def _look(settings: Settings, state: State) -> None:
    """A file that gets its last name just now is in no list for a moment: what is missing is missing twice."""
    here = spool.examine(settings.spool)
    if here.gaps:
        time.sleep(0.2)
        here = spool.examine(settings.spool)
    state.here = here
    why = spool.uncovered(here, state.system, spool.base_of(settings))
    if why and why == state.uncovered:
        want_base(settings, why)
    state.uncovered = why


def want_base(settings: Settings, why: str) -> None:
    """Have a base backup made at once: rag-base.path starts it; one that is under way looks for another reason."""
    wanted = settings.base_wanted
    if not wanted.exists() or wanted.read_text(encoding="utf-8") != f"{why}\n":
        wanted.write_text(f"{why}\n", encoding="utf-8")
        say(f"spool = {why}; a base backup is needed and starts now; systemctl status rag-base")


def _well(state: State) -> bool:
    return state.received is not None and not state.uncovered and not _lost(state)


def _lost(state: State) -> int:
    return len(state.memory.lost) if state.memory else 0


def words(settings: Settings, state: State) -> str:
    """One line for `systemctl status`."""
    if state.received and state.here.segments:
        got = state.received
        timeline = state.here.segments[-1].timeline
        where = (
            f"receiving from {got.host}: timeline {timeline}, {spool.written(got.flushed)}, {_size(got.behind)} behind"
        )
    else:
        where = f"not receiving: {state.problem or 'the primary shows no receiver yet'}"
    since = state.here.whole_since
    held = len(state.here.segments)
    whole = f"spool of {held} files" + (f", whole since {spool.written(since)}" if since is not None else "")
    if state.uncovered:
        whole += f", BUT {state.uncovered}: a base backup is needed, systemctl status rag-base"
    sung = f"canary {state.canary.number} {primary.age(state.canary):.0f} s ago" if state.canary else "no canary yet"
    if state.silent:
        sung += f", none since: {state.silent}"
    if state.memory and state.memory.lost:
        last = state.memory.lost[-1]
        sung += f", BUT {last.number} of {last.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC is lost: docs/backup.md"
    return f"{where}; {whole}; {_size(_free(settings))} free; {sung}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _free(settings: Settings) -> int:
    return shutil.disk_usage(settings.spool).free


def _figures(settings: Settings, state: State) -> metrics.Figures:
    got, canary, here = state.received, state.canary, state.here
    held = len(here.segments) * spool.SEGMENT_BYTES
    return {
        "rag_backup_wal_receiving": ("1: the primary has our receiver, 0: it has none.", float(got is not None)),
        "rag_backup_wal_received_timestamp_seconds": ("When the receiver was last seen there.", state.last_received),
        "rag_backup_wal_behind_bytes": (
            "What the primary has and the spool's disk has not.",
            got.behind if got else -1.0,
        ),
        "rag_backup_wal_gaps": ("Places in the spool where log is missing.", len(here.gaps)),
        "rag_backup_wal_uncovered": (
            "1: no base backup goes together with the newest log, 0: one does.",
            float(bool(state.uncovered)),
        ),
        "rag_backup_spool_files": ("Segments in the spool.", len(here.segments)),
        "rag_backup_spool_bytes": ("Their length.", held),
        "rag_backup_spool_free_bytes": ("Free on the spool's disk.", _free(settings)),
        "rag_backup_canary_number": ("Newest canary that a replica has too.", canary.number if canary else 0),
        "rag_backup_canaries_lost": ("Canaries that a primary acknowledged and has no longer.", _lost(state)),
        "rag_backup_canary_timestamp_seconds": (
            "When it was written.",
            canary.at.timestamp() if canary else 0.0,
        ),
    }
