"""What a drill does, in order: recover, examine the database, use the platform on it, and weekly try to be fooled."""

import random
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import httpx

from app.backup import canaries, restic
from app.backup.canaries import Canary
from app.backup.choice import believed
from app.backup.drill import backups, contents, database, golden, index, stack
from app.backup.drill.checks import CheckError, Checks
from app.backup.drill.evidence import Evidence
from app.backup.drill.place import credentials, free_port, put_away
from app.backup.process import Repository
from app.backup.recovered import RecoveryError, Server, prepared
from app.backup.recoveries import recoveries_of
from app.backup.repositories import size_of
from app.backup.restic import Snapshot
from app.backup.room import Room, RoomError
from app.backup.settings import Settings

RECOVERY = ("snapshots", "space", "restore", "files", "wal", "recovery", "write")
DAILY = (
    *RECOVERY, "canaries", "btrees", "tables", "passages", "schema", "documents",
    "index", "nearest", "search", "citation", "answer", "checksums",
)  # fmt: skip
WEEKLY = (*DAILY, "moment", "control")
HOUR = 3600.0


@dataclass
class Drill:
    """One drill under way."""

    settings: Settings
    folder: Path
    repositories: dict[str, Repository]
    evidence: Evidence
    checks: Checks
    room: Room
    began: float = field(default_factory=time.monotonic)
    bases: list[Snapshot] = field(default_factory=list)
    wals: list[Snapshot] = field(default_factory=list)
    canaries: list[Canary] = field(default_factory=list)

    @property
    def weekly(self) -> bool:
        return self.evidence.kind == "drill-weekly"

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    @property
    def wal_limit(self) -> float:
        """How old the newest WAL in the repository may be."""
        return max(120.0, 4 * self.settings.wal_seconds)

    def ask(self, size: int) -> str:
        """For room beyond what is filled by now; raise CheckError where there is too little."""
        try:
            return self.room.more((self.folder, size))
        except RoomError as error:
            raise CheckError(str(error)) from None

    def passed(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self.began, 2)


def carried_out(drill: Drill) -> None:
    """All of it, each check in its turn; what cannot be reached is left to the verdicts."""
    checks = drill.checks
    with ExitStack() as things:
        server = _recovered(drill, things)
        if server:
            _examined(drill, server)
            _used(drill, server)
            checks.run("checksums", HOUR, lambda: _stopped(server))
    if drill.weekly:
        # Its room is needed again.
        put_away(drill.folder)
        drill.folder.mkdir(mode=0o700)
        checks.run("moment", HOUR, lambda: _moment(drill))
        checks.run("control", HOUR, lambda: _control(drill))


def _recovered(drill: Drill, things: ExitStack) -> Server | None:
    """The part that counts: until a write is taken, nothing is done that a recovery would not do."""
    checks, found = drill.checks, drill.evidence
    made: list[Server] = []

    def listed() -> str:
        drill.bases = believed(restic.snapshots(drill.repositories["base"], tag="base"), found.began)
        drill.wals = believed(restic.snapshots(drill.repositories["wal"], tag="wal"), found.began)
        found.note("base", chosen().base)
        found.note("wal", chosen().wal)
        return backups.ages(chosen(), found.began, drill.wal_limit)

    def chosen() -> backups.Chosen:
        return backups.newest(drill.bases, drill.wals)

    def fetched() -> str:
        return backups.fetched(drill.repositories, chosen(), drill.wals, drill.base, drill.wal, drill.ask)

    def laid() -> str:
        # The label is the server's as soon as it starts.
        try:
            return backups.unbroken(drill.base, drill.wal)
        finally:
            made.append(prepared(drill.base, drill.wal, port=free_port(), listen=stack.LISTEN))

    def started() -> str:
        made[0].start(2 * HOUR)
        found.recovered = database.state(made[0])
        return f"up to {found.recovered['lsn']}, the last commit of {found.recovered['last_commit']}"

    def written() -> str:
        said = database.writes(made[0])
        found.rto_seconds = drill.passed()
        return said

    # An age that is too old is a failure, and the drill goes on with what there is.
    checks.run("snapshots", 300, listed)
    checks.run("space", 30, lambda: drill.ask(backups.needed(chosen())), needed=True)
    checks.run("restore", 6 * HOUR, fetched, needed=True)
    drill.evidence.phases["restored"] = drill.passed()
    checks.run("files", HOUR, lambda: backups.whole(drill.base))
    checks.run("wal", 300, laid)
    if not made:
        return None
    things.callback(_ended, made[0])
    checks.run("recovery", 2 * HOUR, started, needed=True)
    drill.evidence.phases["recovered"] = drill.passed()
    checks.run("write", 60, written, needed=True)
    return None if checks.blocked else made[0]


def _examined(drill: Drill, server: Server) -> None:
    """The database as such."""
    checks, found = drill.checks, drill.evidence
    expected = backups.manifest(drill.base)

    def counted() -> str:
        drill.canaries = database.canaries(server)
        if drill.canaries:
            last = drill.canaries[-1]
            found.canary = {"number": last.number, "at": last.at.isoformat()}
            found.rpo_seconds = round((found.began - last.at).total_seconds(), 2)
        remembered = canaries.read(drill.settings.canaries)
        return database.recent(drill.canaries, found.began, expected, remembered, drill.wal_limit)

    most = None if drill.weekly else drill.settings.drill.documents
    checks.run("canaries", 120, counted)
    checks.run("btrees", 6 * HOUR, lambda: database.indexes(server, 6 * HOUR))
    checks.run("tables", HOUR, lambda: contents.tables(server, expected))
    checks.run("passages", HOUR, lambda: contents.passages(server, expected))
    checks.run("schema", 60, lambda: contents.schema(server, expected))
    checks.run("documents", 6 * HOUR, lambda: contents.documents(server, most))
    found.phases["examined"] = drill.passed()


def _used(drill: Drill, server: Server) -> None:
    """The platform on it."""
    checks, found = drill.checks, drill.evidence
    made = stack.made(drill.settings, server, drill.folder)
    with ExitStack() as things:
        things.enter_context(credentials(drill.folder / "credentials", made.secrets))

        def filled() -> str:
            packages = drill.settings.drill.chroma
            things.enter_context(index.chroma(made.settings, packages, drill.folder / "chroma"))
            return index.filled(made.settings)

        checks.run("index", 6 * HOUR, filled)
        checks.run("nearest", 300, lambda: index.nearest(made.settings))
        found.phases["indexed"] = drill.passed()
        sentences: list[list[golden.Golden]] = []
        clients: list[httpx.Client] = []

        def searched() -> str:
            inference = made.settings.inference.url.rsplit(":", 1)[1]
            things.enter_context(stack.relay(drill.settings.drill.pool, int(inference)))
            clients.append(things.enter_context(golden.api(made, drill.folder / "api", 120)))
            sentences.append(golden.chosen(made))
            said = golden.searched(client(), asked())
            found.answer_seconds = drill.passed()
            return said if asked() else golden.NOTHING

        def client() -> httpx.Client:
            if not clients:
                raise RuntimeError("the application is not up")
            return clients[0]

        def asked() -> list[golden.Golden]:
            # None were chosen is another thing than that there is none.
            if not sentences:
                raise RuntimeError("nothing was chosen to ask for")
            return sentences[0]

        def cited() -> str:
            said = golden.cited(client(), made, asked())
            return said if asked() else golden.NOTHING

        def answered() -> str:
            said = golden.answered(client(), made, asked())
            found.answers = {"asked": said.asked, "cited": said.cited, "model": said.model}
            return str(said) if asked() else golden.NOTHING

        checks.run("search", 300, searched)
        checks.run("citation", 120, cited)
        checks.run("answer", 300, answered)
        found.phases["answered"] = drill.passed()


def _stopped(server: Server) -> str:
    server.stop(300)
    return database.checksums(server, HOUR)


def _moment(drill: Drill) -> str:
    """Another recovery, to a moment that nobody chose."""
    recoveries = recoveries_of(drill.settings)
    # The write that shows that the moment has passed must be in a snapshot, too.
    span = (drill.bases[0].at, drill.wals[-1].at - backups.SURELY)
    moment, last, proof = database.between(drill.canaries, span, random.SystemRandom(), recoveries)
    drill.evidence.moment = moment.astimezone(UTC).isoformat()
    chosen = backups.reaching(drill.bases, drill.wals, moment, proof.at, recoveries)
    drill.evidence.note("moment-base", chosen.base)
    drill.evidence.note("moment-wal", chosen.wal)
    base, wal = drill.folder / "moment/base", drill.folder / "moment/wal"
    base.parent.mkdir(mode=0o700)
    drill.ask(backups.needed(chosen))
    backups.fetched(drill.repositories, chosen, drill.wals, base, wal, drill.ask)
    server = prepared(base, wal, moment, port=free_port())
    try:
        server.start(HOUR)
        return database.as_of(server, drill.canaries, moment, last.number)
    except RecoveryError as error:
        raise CheckError(str(error)) from None
    finally:
        _ended(server)
        shutil.rmtree(base.parent)


def _control(drill: Drill) -> str:
    folder, repository = drill.folder / "control", drill.repositories["base"]
    folder.mkdir(mode=0o700)
    # On another disk its files have no second name, and are copied.
    local = repository.local
    apart = local is not None and local.stat().st_dev != folder.stat().st_dev
    drill.ask(size_of(local) if local and apart else backups.SPOILT_BYTES)
    return backups.spoilt(repository, drill.bases[-1], folder)


def _ended(server: Server) -> None:
    if server.pid():
        server.stop(60)
