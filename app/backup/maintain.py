"""Verb `maintain`: dead locks go, what is too old goes, and what is kept is read through within a week."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.backup import restic
from app.backup.keys import keys
from app.backup.metrics import Figures, Labels, Outcome, recorded, say
from app.backup.recoveries import UNKNOWN, recoveries_of, unknown_here
from app.backup.repositories import KINDS, own, pushed, size_of
from app.backup.restic import Repository, RepositoryError
from app.backup.retention import Past, days_of, jump, past_of, unwanted
from app.backup.settings import Settings

WEEK: Final = 7
# So small a repository is read through each day.
DAILY_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Found:
    """One repository after its maintenance."""

    bytes: int = 0
    snapshots: int = 0
    newest: float = 0.0
    future: int = 0
    """Snapshots that claim to be of tomorrow: a wrong clock, or somebody who pushes lies."""
    keys: int = 0
    locks: int = 0
    forgotten: int = 0
    part: str = ""
    problem: str = ""


def run(settings: Settings) -> int:
    """Exit code 0 when every repository is whole, as far as it was read today."""
    return recorded(settings, "maintain", lambda: _work(settings))


def _work(settings: Settings) -> Outcome:
    past, why = _past(settings)
    found: dict[str, Found] = {}
    for kind in KINDS:
        found[kind] = _kept(own(settings, kind), kind, days_of(settings, kind), past)
    for name, repository in pushed(settings).items():
        found[name] = _kept(repository, "pushed", days_of(settings, "pushed"), past)
    bad = [*([why] if why else []), *(one.problem for one in found.values() if one.problem)]
    for problem in bad:
        say(problem)
    total = sum(one.bytes for one in found.values())
    words = f"{len(found)} repositories, {total / 1e6:.0f} MB, {sum(one.forgotten for one in found.values())} snapshots"
    words += f" forgotten; read: {', '.join(f'{name} {one.part}' for name, one in found.items() if one.part)}"
    return Outcome(not bad, bad[0] if bad else words, {**_figures(found), **_aside(settings)})


def _past(settings: Settings) -> tuple[Past | None, str]:
    """By what everything is measured; none, and the reason: nothing may be forgotten today."""
    try:
        logs, bases = restic.snapshots(own(settings, "wal")), restic.snapshots(own(settings, "base"))
        anew = unknown_here(settings, own(settings, "site"))
    except RepositoryError as error:
        return None, f"{error}; nothing was forgotten in any repository"
    if anew:
        return None, UNKNOWN
    past = past_of(logs, bases, recoveries_of(settings), datetime.now(UTC))
    why = jump(past)
    return (None, why) if why else (past, "")


def _kept(repository: Repository, kind: str, days: int, past: Past | None) -> Found:
    """What fails in one repository keeps nobody from looking after the next."""
    folder = repository.local
    try:
        locks = restic.unlock(repository)
        old = unwanted(restic.snapshots(repository), kind, days, past, datetime.now(UTC)) if past else []
        forgotten = restic.forget(repository, old)
        # While it gives space back nobody else gets in.
        if forgotten or kind == "wal":
            restic.prune(repository)
        part = part_of(size_of(folder) if folder else 0, datetime.now(UTC))
        restic.check(repository, part=part)
        known = restic.snapshots(repository)
        now = time.time()
        times = [one.at.timestamp() for one in known]
        return Found(
            bytes=size_of(folder) if folder else 0,
            snapshots=len(known),
            newest=max((at for at in times if at <= now), default=0.0),
            future=sum(at > now for at in times),
            keys=len(keys(repository)),
            locks=locks,
            forgotten=forgotten,
            part="all of it" if part[1] == 1 else f"{part[0]}/{part[1]}",
        )
    except RepositoryError as error:
        return Found(bytes=size_of(folder) if folder else 0, problem=str(error))


def part_of(size: int, now: datetime) -> tuple[int, int]:
    """Which part is read today: all parts within a week, and a small repository whole each day."""
    parts = min(WEEK, max(1, math.ceil(size / DAILY_BYTES)))
    return now.toordinal() % parts + 1, parts


def _aside(settings: Settings) -> Figures:
    """What had to leave the spool, as gaps and recoveries in place left it: nobody takes it away but a person."""
    try:
        oldest = min((path.stat().st_mtime for path in settings.aside.iterdir()), default=0.0)
    except FileNotFoundError:
        oldest = 0.0
    return {
        "rag_backup_aside_bytes": ("What lies in aside/.", size_of(settings.aside)),
        "rag_backup_aside_oldest_timestamp_seconds": ("When the oldest of it was put there, 0: nothing is.", oldest),
    }


def _figures(found: Mapping[str, Found]) -> Figures:
    def each(value: Callable[[Found], float], *, broken: bool = False) -> dict[Labels, float]:
        return {(("repository", name),): float(value(one)) for name, one in found.items() if broken or not one.problem}

    figures: Figures = {
        "rag_backup_repository_good": (
            "1: the repository is whole as far as it was read, 0: it is not, or could not be read.",
            each(lambda one: not one.problem, broken=True),
        ),
        "rag_backup_repository_bytes": ("Size of the repository.", each(lambda one: one.bytes, broken=True)),
        "rag_backup_repository_snapshots": ("Snapshots in it.", each(lambda one: one.snapshots)),
        "rag_backup_repository_future_snapshots": ("Snapshots of a time to come.", each(lambda one: one.future)),
        "rag_backup_repository_newest_timestamp_seconds": ("Time of the newest.", each(lambda one: one.newest)),
        "rag_backup_repository_keys": ("Keys that open it.", each(lambda one: one.keys)),
        "rag_backup_repository_locks": ("Locks of living programs left in it.", each(lambda one: one.locks)),
    }
    return {name: figure for name, figure in figures.items() if figure[1]}
