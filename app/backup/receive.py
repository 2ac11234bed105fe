"""rag-wal: receives the log from whichever PostgreSQL is the primary, and sees to it that nothing is missing."""

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping

import psycopg2

from app.backup import primary, spool
from app.backup.metrics import say
from app.backup.notify import notify
from app.backup.passfile import passfile
from app.backup.settings import Settings
from app.backup.watch import State, want_base, watch

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""After a receiver that ended at once, the longer the more often; one that received starts with the first again."""
ASKED = "wal_sender_timeout=20s"
"""The primary asks a silent receiver after half of that, and lets go of one that does not answer in the other half."""
HANGS_SECONDS = 60.0
"""A watcher that has not looked for so long hangs: its questions to the primary end before."""
BEGAN = re.compile(r"starting log streaming at|switched to timeline|not renaming")
REMOVED = re.compile(r"requested WAL segment \w+ has already been removed")
LEFT = re.compile(r"on timeline (\d+) is not in this server's history")
FORKED = re.compile(r"forked from timeline \d+ at ([0-9A-F]+/[0-9A-F]+)")
UNKNOWN_TIMELINE = re.compile(r"requested timeline (\d+) is not in this server's history")
LET_GO = re.compile(r"server closed the connection unexpectedly|could not receive data from WAL stream")
NO_SLOT = re.compile(r'replication slot "\w+" does not exist')
FULL = "No space left on device"


def run(settings: Settings) -> int:
    """Receive until SIGTERM; exit code 1, after which systemd starts it again, when nobody watches any more."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    settings.run.mkdir(exist_ok=True)
    state = State()
    watcher = threading.Thread(target=_watching, args=(settings, state, stopping), daemon=True)
    watcher.start()
    notify(ready="1", status="looks for the primary")
    tries = 0
    while not stopping.is_set():
        problem, began = _once(settings, state, stopping)
        if stopping.is_set():
            break
        tries = 0 if began else tries + 1
        if problem != state.problem or began:
            say(problem)
        state.receiving, state.problem = False, problem
        _feed(state)
        stopping.wait(PAUSES[min(tries, len(PAUSES) - 1)])
    notify(stopping="1", status="stopped")
    watcher.join(10)
    return 0 if state.watched else 1


def _watching(settings: Settings, state: State, stopping: threading.Event) -> None:
    """Watch; when that breaks, all of it ends and is started anew, rather than receive unseen."""
    try:
        watch(settings, state, stopping)
    except BaseException:
        state.watched = False
        raise
    finally:
        stopping.set()


def _feed(state: State) -> None:
    """Tell systemd that this program lives, as long as both halves do."""
    if time.monotonic() - state.looked < HANGS_SECONDS:
        notify(watchdog="1")


def _once(settings: Settings, state: State, stopping: threading.Event) -> tuple[str, bool]:
    """One receiver from its start to its end: why it ended, and whether it received."""
    try:
        with primary.connected(settings) as session:
            slot = primary.slot_of(session, settings)
            if slot is None:
                return f"slot {settings.cluster.slot} = not there; Patroni makes it on the primary; make cluster", False
            if slot.lost:
                primary.make_anew(session, settings)
                say(f"slot {settings.cluster.slot} = had lost its place, the receiver was away too long; made anew")
        state.system = slot.system
        _prepare(settings, slot)
        with passfile() as secret:
            said, began = _receive(settings, state, stopping, secret)
        return _mended(settings, slot, said), began
    except psycopg2.Error as error:
        reason = " ".join(str(error).split())[:200]
        return (
            f"primary = none that lets us in ({reason}); one of {', '.join(settings.cluster.hosts)}; make cluster",
            False,
        )
    except OSError as error:
        return f"spool = {error.strerror or error}; a folder that can be written; df -h {settings.folder}", False


def _prepare(settings: Settings, slot: primary.Slot) -> None:
    """No receiver runs: the spool is looked at as it is, and what would stop the next one is put right."""
    for name in spool.mend(settings.spool):
        say(f"{name} = not of a segment's length, a full disk left it; emptied, it is received anew")
    system = spool.system_of(settings.spool)
    if system is not None and system != slot.system:
        names = [path.name for path in settings.spool.iterdir()]
        to = spool.set_aside(settings, names, "another-cluster")
        say(f"spool = the log of cluster {system}, the primary's is {slot.system}; moved to {to}")
    why = spool.uncovered(spool.examine(settings.spool), slot.system, spool.base_of(settings))
    if why:
        want_base(settings, why)


def _receive(
    settings: Settings, state: State, stopping: threading.Event, secret: Mapping[str, str]
) -> tuple[str, bool]:
    """What pg_receivewal said at its end, and whether it received anything."""
    command = [
        str(settings.cluster.programs / "pg_receivewal"),
        *("--directory", str(settings.spool), "--slot", settings.cluster.slot),
        # Nothing is told to the primary unasked: asked, the receiver has all on the disk before it answers. With
        # --synchronous it would do so after each message, which costs a busy primary more than all the rest.
        *("--status-interval", "0"),
        # A failure comes back here, to be looked at.
        *("--no-loop", "--no-password", "--verbose"),
        *("--dbname", settings.cluster.dsn(program=primary.PROGRAM, session=ASKED)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **secret})
    said: deque[str] = deque(maxlen=6)
    began = threading.Event()

    def listen() -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe, for the type checker
        for line in process.stderr:
            words = line.strip().removeprefix("pg_receivewal: ")
            said.append(words)
            if BEGAN.search(words):
                began.set()
                state.receiving, state.problem = True, ""
                say(words)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while process.poll() is None:
        _feed(state)
        if stopping.wait(0.5):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    process.wait()
    listener.join(5)
    return " ".join(words for words in said if not BEGAN.search(words)), began.is_set()


def _mended(settings: Settings, slot: primary.Slot, said: str) -> str:
    """What is put right after the end of a receiver that said this, in words for the operator."""
    here = spool.examine(settings.spool)
    if REMOVED.search(said):
        # What lies between the spool and the present is of no use without a base backup, which begins at the present.
        want_base(settings, f"log is missing between {here.segments[-1].name} and {slot.segment}")
        spool.go_on_at(settings.spool, slot.segment)
        return f"log = removed by the primary before it was received; the receiver goes on at {slot.segment}"
    if unknown := UNKNOWN_TIMELINE.search(said):
        names = spool.beyond(here, int(unknown[1]), -1)
        return f"timeline {unknown[1]} = unknown to the primary; moved to {spool.set_aside(settings, names, 'unknown')}"
    if (left := LEFT.search(said)) and (forked := FORKED.search(said)):
        names = spool.beyond(here, int(left[1]), spool.position(forked[1]))
        to = spool.set_aside(settings, names, "not-in-history")
        return f"timeline {left[1]} = left by the primary at {forked[1]}; what had come beyond it lies in {to}"
    return _in_words(settings, said)


def _in_words(settings: Settings, said: str) -> str:
    """Where nothing is to be put right here: what an operator may do."""
    if FULL in said:
        return f"spool = the disk is full; room is needed, the primary keeps the log meanwhile; df -h {settings.folder}"
    if NO_SLOT.search(said):
        return f"slot {settings.cluster.slot} = not there; Patroni makes it on the primary; make cluster"
    if LET_GO.search(said):
        return (
            f"receiver = let go by the primary ({said[-200:]}); a primary that runs, and a disk here that answers"
            " within ten seconds; make cluster SITE=…; vmstat 5"
        )
    return f"receiver = ended ({said[-300:] or 'without a word'}); it starts again by itself; make cluster"
