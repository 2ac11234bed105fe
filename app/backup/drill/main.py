"""`python3 -m app.backup drill [--weekly]`: one drill from the repositories to the evidence."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from app.backup.drill import evidence
from app.backup.drill.checks import Checks, StoppedError, stoppable
from app.backup.drill.evidence import Evidence, Kind
from app.backup.drill.place import put_away, scratch
from app.backup.drill.steps import DAILY, WEEKLY, Drill, carried_out
from app.backup.metrics import Outcome, publish, recorded, say
from app.backup.process import Repository, RepositoryError
from app.backup.recovered import RecoveryError
from app.backup.repositories import DRILL, own
from app.backup.room import Room, RoomError, kept
from app.backup.settings import Kind as RepositoryKind
from app.backup.settings import Settings

KINDS: tuple[RepositoryKind, ...] = ("base", "wal", "evidence")


def run(settings: Settings, weekly: bool = False) -> int:
    """Exit code 0: everything passed; 1: something did not, or could not run; 2: refused, another drill runs."""
    kind: Kind = "drill-weekly" if weekly else "drill"
    # The drill's own key, and before its secrets take the place of the unit's.
    repositories: dict[str, Repository] = {name: own(settings, name, key=DRILL) for name in KINDS}
    # The place is put away when what was found is told: who stops the drill then changes nothing of that.
    with ExitStack() as things:
        try:
            with stoppable(lambda: _stopped(settings, kind)):
                return _run(settings, kind, repositories, things)
        except StoppedError:
            say(f"{kind}: failed; stopped before its first check or after its last; systemctl start rag-{kind}")
            return 1


def _stopped(settings: Settings, kind: Kind) -> None:
    with suppress(OSError):
        publish(settings, kind, well=False)


def _run(settings: Settings, kind: Kind, repositories: dict[str, Repository], things: ExitStack) -> int:
    try:
        folder = things.enter_context(scratch(settings))
        room = things.enter_context(kept(settings, "rag-drill"))
    except (OSError, RecoveryError, RoomError) as error:
        # Not even begun, and that is a failure too.
        words = f"scratch = {error}; a folder of our own; ls -ld {settings.scratch}"
        return recorded(settings, kind, lambda: Outcome(False, words))
    return recorded(settings, kind, lambda: _outcome(settings, kind, repositories, folder, room))


def _outcome(settings: Settings, kind: Kind, repositories: dict[str, Repository], folder: Path, room: Room) -> Outcome:
    found = Evidence(kind, settings.site, datetime.now(UTC))
    drill = Drill(settings, folder, repositories, found, Checks(WEEKLY if kind == "drill-weekly" else DAILY), room)
    try:
        found.versions = _versions(settings)
        carried_out(drill)
    except StoppedError:
        say("drill = stopped; what was not reached counts as failed")
    except Exception as error:  # what went wrong between two checks is evidence too
        drill.checks.end("the way there")
        say(f"drill = ended early; {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    found.checks, found.seconds = drill.checks.all, drill.passed()
    words = _told(found)
    try:
        path = _kept(settings, repositories["evidence"], found, folder)
    except (RepositoryError, RecoveryError, OSError) as error:
        return Outcome(False, f"{words}; the evidence was not kept: {error}", evidence.figures(found))
    return Outcome(found.well, f"{words}; {path}", evidence.figures(found))


def _kept(settings: Settings, repository: Repository, found: Evidence, folder: Path) -> Path:
    try:
        return evidence.kept(settings, repository, found)
    except (RepositoryError, OSError) as error:
        if isinstance(error, RepositoryError) and error.kind != "full":
            raise
    # A disk that filled meanwhile has room for it without what the drill restored.
    put_away(folder)
    return evidence.kept(settings, repository, found)


def _told(found: Evidence) -> str:
    times = [
        f"{name} {value:.1f} s"
        for name, value in (
            ("RTO", found.rto_seconds), ("first answer after", found.answer_seconds), ("RPO", found.rpo_seconds)
        )
        if value is not None
    ]  # fmt: skip
    said = f"{len(found.checks) - len(found.wrong)} of {len(found.checks)} checks passed, {', '.join(times)}"
    first = f"; {found.wrong[0].name}: {found.wrong[0].verdict}, {found.wrong[0].found}" if found.wrong else ""
    return f"{said}{first}"


def _versions(settings: Settings) -> dict[str, str]:
    said = subprocess.run(
        ["restic", "version", "--json"], capture_output=True, text=True, check=False, timeout=30
    ).stdout
    return {
        "release": settings.release,
        "restic": str(json.loads(said)["version"]) if said.startswith("{") else said.strip(),
        "chroma": settings.drill.chroma.parent.name,
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
    }
