"""Verb `copy`: the second repository, elsewhere, gets what the first one has; its age is the lag shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.backup import restic
from app.backup.keys import keys
from app.backup.maintain import BEYOND_DAYS, EVIDENCE_DAYS, WAL_HOURS
from app.backup.metrics import Figures, Labels, Outcome, recorded, say
from app.backup.process import run as run_restic
from app.backup.repositories import KINDS, own, second
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.settings import Kind, Settings


@dataclass(frozen=True)
class Copied:
    """One kind after its copy."""

    kind: Kind
    new: int = 0
    lag: float = 0.0
    keys: int = 0
    problem: str = ""


def run(settings: Settings) -> int:
    """Exit code 0 when all that is wanted of every repository is in the second one; also where the site has none."""
    if not settings.second.repository:
        say("copy: nothing to do; backup.second_repository is empty")
        return 0
    return recorded(settings, "copy", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    done = [_copied(settings, kind) for kind in KINDS]
    bad = [one.problem for one in done if one.problem]
    for problem in bad:
        say(problem)
    good = [one for one in done if not one.problem]
    lags: dict[Labels, float] = {(("repository", one.kind),): one.lag for one in good}
    held: dict[Labels, float] = {(("repository", one.kind),): float(one.keys) for one in good}
    figures: Figures = {
        "rag_backup_copy_lag_seconds": ("By how much the second repository's newest snapshot is the older one.", lags),
        "rag_backup_copy_keys": ("Keys that open the second repository.", held),
    }
    words = f"{sum(one.new for one in done)} snapshots copied to {settings.second.repository}"
    return Outcome(not bad, bad[0] if bad else words, figures if good else {})


def _copied(settings: Settings, kind: Kind) -> Copied:
    source, target = own(settings, kind), second(settings, kind)
    assert target is not None  # noqa: S101 - asked by `run`, for the type checker
    try:
        _there(source, target)
        known = restic.snapshots(source)
        new = restic.copy(source, target, [one.id for one in wanted(kind, known)])
        _thinned(target, EVIDENCE_DAYS if kind == "evidence" else settings.retention.days + BEYOND_DAYS, kind)
        held = {one.original for one in restic.snapshots(target)}
        newest = max((one.at for one in known if one.id in held), default=None)
        lag = (known[-1].at - newest).total_seconds() if newest else 0.0
        return Copied(kind, new, lag, len(keys(target)))
    except RepositoryError as error:
        return Copied(kind, problem=str(error))


def wanted(kind: Kind, known: Sequence[Snapshot], now: datetime | None = None) -> list[Snapshot]:
    """What is copied: of the log the last of each hour that is over, and the newest; of all else everything."""
    if kind != "wal" or not known:
        return list(known)
    hours = {one.at.replace(minute=0, second=0, microsecond=0): one for one in sorted(known, key=lambda one: one.at)}
    ended = (now or datetime.now(UTC)) - timedelta(hours=1)
    return [one for hour, one in sorted(hours.items()) if hour <= ended or one.id == known[-1].id]


def _there(source: Repository, target: Repository) -> None:
    try:
        # restic asks a server that is not there again and again.
        run_restic(target, ["cat", "config"], seconds=90)
    except RepositoryError as error:
        if error.kind != "absent":
            raise
        restic.init(target, like=source)
        say(f"repository {target.location} = made")


def _thinned(target: Repository, days: int, kind: Kind) -> None:
    """As the first one; a server that lets nobody delete keeps everything, which is its site's choice."""
    try:
        if restic.forget(target, days=days, all_hours=WAL_HOURS if kind == "wal" else None):
            restic.prune(target)
    except RepositoryError as error:
        if error.kind != "refused":
            raise
        say(f"repository {target.location} = keeps everything; it lets nobody delete, so its own owner must")
