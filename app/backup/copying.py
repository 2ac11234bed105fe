"""Verb `copy`: the second repository, elsewhere, gets what the first one has; its age is the lag shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.backup import restic
from app.backup.choice import NEVER, Recoveries, last_of_hours
from app.backup.keys import OFFLINE, keys
from app.backup.metrics import Figures, Labels, Outcome, recorded, say
from app.backup.process import exists, failure, refuse_silence, without_password
from app.backup.recoveries import UNKNOWN, recoveries_of, unknown_here
from app.backup.repositories import KINDS, own, second
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.retention import Past, days_of, jump, past_of, unwanted
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
    there = {kind: target for kind in KINDS if (target := second(settings, kind))}
    refuse_silence(next(iter(there.values())))
    past = _past(settings, there["base"])
    done = [_copied(settings, kind, target, past) for kind, target in there.items()]
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
    words = f"{sum(one.new for one in done)} snapshots copied to {without_password(settings.second.repository)}"
    return Outcome(not bad, bad[0] if bad else words, figures if good else {})


def _past(settings: Settings, elsewhere: Repository) -> Past | None:
    """By what the copies are thinned; None: nothing may go, as the clock leapt or nobody tells."""
    try:
        _unlocked(elsewhere)
        # The newest base there may be an older one than here, and needs the log since.
        logs, bases = restic.snapshots(own(settings, "wal")), restic.snapshots(elsewhere)
        site = second(settings, "site")
        if site and exists(site):
            _unlocked(site)
        if site and unknown_here(settings, site):
            say(UNKNOWN)
            return None
    except RepositoryError:
        return None
    past = past_of(logs, bases, recoveries_of(settings), datetime.now(UTC))
    return None if jump(past) else past


def _copied(settings: Settings, kind: Kind, target: Repository, past: Past | None) -> Copied:
    source = own(settings, kind)
    try:
        if not exists(target):
            restic.init(target, like=source)
            say(f"repository {target.shown} = made")
        _unlocked(target)
        known = restic.snapshots(source)
        new = restic.copy(source, target, wanted(kind, known, recoveries_of(settings)))
        if past:
            _thinned(target, days_of(settings, kind), kind, past)
        held = {one.original for one in restic.snapshots(target)}
        newest = max((one.at for one in known if one.original in held), default=None)
        lag = (known[-1].at - newest).total_seconds() if newest else 0.0
        theirs = keys(target)
        if not any(key.user == OFFLINE for key in theirs):
            # By this mark the deploy knows that it has been done.
            settings.second_keyed.unlink(missing_ok=True)
            reason = "the escrow line does not open it"
            raise failure(target, "password", reason, "make deploy gives it the offline key")
        return Copied(kind, new, lag, len(theirs))
    except RepositoryError as error:
        return Copied(kind, problem=str(error))


def _unlocked(target: Repository) -> None:
    """Locks of a copy that was killed go; nobody else looks after this one."""
    try:
        restic.unlock(target)
    except RepositoryError as error:
        # Where nobody may delete, no lock that keeps a copy out can be made either.
        if error.kind != "refused":
            raise


def wanted(kind: Kind, known: Sequence[Snapshot], recoveries: Recoveries = NEVER) -> list[Snapshot]:
    """What is copied: of the log the last of each hour and the last before a recovery in place; of all else all."""
    return last_of_hours(known, recoveries) if kind == "wal" else list(known)


def _thinned(target: Repository, days: int, kind: Kind, past: Past) -> None:
    """As the first one; a server that lets nobody delete keeps everything, which is its site's choice."""
    try:
        old = unwanted(restic.snapshots(target), kind, days, past, datetime.now(UTC))
        if restic.forget(target, old):
            restic.prune(target)
    except RepositoryError as error:
        if error.kind != "refused":
            raise
        say(f"repository {target.shown} = keeps everything; it lets nobody delete, so its own owner must")
