"""Verb `copy`: the second repository, elsewhere, gets what the first one has, and is read through in a month."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.backup import restic
from app.backup.choice import NEVER, Recoveries, last_of_hours
from app.backup.keys import OFFLINE, keys
from app.backup.metrics import Figures, Labels, Outcome, published, recorded, say
from app.backup.process import exists, failure, refuse_silence, without_password
from app.backup.recoveries import UNKNOWN, recoveries_of, unknown_here
from app.backup.repositories import KINDS, own, second
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.retention import Past, days_of, jump, past_of, unwanted
from app.backup.settings import Kind, Settings

NEWEST, KEYS, READ = (
    "rag_backup_copy_newest_timestamp_seconds",
    "rag_backup_copy_keys",
    "rag_backup_copy_read_timestamp_seconds",
)
PARTS = 29
"""Of what lies elsewhere one is read each day: reading it may cost its site money, never reading it the copies.

A prime: copies that are made each week, or each second day, come to every part too.
"""
DAY = 20 * 3600.0
"""Copies may be made more often."""


@dataclass(frozen=True)
class Copied:
    """One kind after its copy; times in seconds since 1970, None: not known after a failure."""

    kind: Kind
    new: int = 0
    newest: float | None = None
    keys: float | None = None
    read: float | None = None
    problem: str = ""


def run(settings: Settings) -> int:
    """Exit code 0 when all that is wanted of every repository is in the second one; also where the site has none."""
    if not settings.second.repository:
        say("copy: nothing to do; backup.second_repository is empty")
        return 0
    return recorded(settings, "copy", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    there = {kind: target for kind in KINDS if (target := second(settings, kind))}
    before = published(settings, "copy")
    try:
        refuse_silence(next(iter(there.values())))
    except RepositoryError as silent:
        return Outcome(False, str(silent), _figures([Copied(kind) for kind in there], before))
    past, why = _past(settings, there["base"])
    done = [
        _read(_copied(settings, kind, target, past), target, before.get(READ, {}).get(_labels(kind), 0.0))
        for kind, target in there.items()
    ]
    bad = [*(one.problem for one in done if one.problem), *([why] if why else [])]
    for problem in bad:
        say(problem)
    words = f"{sum(one.new for one in done)} snapshots copied to {without_password(settings.second.repository)}"
    return Outcome(not bad, bad[0] if bad else words, _figures(done, before))


def _figures(done: Sequence[Copied], before: Mapping[str, Mapping[Labels, float]]) -> Figures:
    """What a failure left unknown stays what it was: the age of the newest copy grows, and tells."""

    def each(name: str, value: Callable[[Copied], float | None]) -> dict[Labels, float]:
        now = {_labels(one.kind): value(one) for one in done}
        former = before.get(name, {})
        return {labels: known for labels, one in now.items() if (known := former.get(labels) if one is None else one)}

    figures: Figures = {
        NEWEST: (
            "When the newest snapshot was taken that the second repository has.",
            each(NEWEST, lambda one: one.newest),
        ),
        KEYS: ("Keys that open the second repository.", each(KEYS, lambda one: one.keys)),
        READ: (
            "When the second repository was last looked through, and a part of it read.",
            each(READ, lambda one: one.read),
        ),
    }
    return {name: figure for name, figure in figures.items() if figure[1]}


def _labels(kind: Kind) -> Labels:
    return (("repository", kind),)


def _read(copied: Copied, target: Repository, before: float) -> Copied:
    """Once a day all of it is looked for there, and a part is read."""
    now = datetime.now(UTC)
    if copied.problem or now.timestamp() - before < DAY:
        return copied
    try:
        restic.check(target, part=(now.toordinal() % PARTS + 1, PARTS))
    except RepositoryError as error:
        return replace(copied, problem=str(error))
    return replace(copied, read=now.timestamp())


def _past(settings: Settings, elsewhere: Repository) -> tuple[Past | None, str]:
    """By what the copies are thinned; none, and the reason: nothing may go there today. The first copy has neither."""
    try:
        _unlocked(elsewhere)
        # The newest base there may be an older one than here, and needs the log since.
        logs, bases = restic.snapshots(own(settings, "wal")), restic.snapshots(elsewhere)
        site = second(settings, "site")
        if site and exists(site):
            _unlocked(site)
        if site and unknown_here(settings, site):
            return None, UNKNOWN
    except RepositoryError as error:
        return None, "" if error.kind == "absent" else f"{error}; nothing was forgotten there"
    past = past_of(logs, bases, recoveries_of(settings), datetime.now(UTC))
    why = jump(past)
    return (None, why) if why else (past, "")


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
        newest = max((one.at.timestamp() for one in known if one.original in held), default=None)
        theirs = keys(target)
        if not any(key.user == OFFLINE for key in theirs):
            # By this mark the deploy knows that it has been done.
            settings.second_keyed.unlink(missing_ok=True)
            reason = "the escrow line does not open it"
            raise failure(target, "password", reason, "make deploy gives it the offline key")
        return Copied(kind, new, newest, len(theirs))
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
