"""Which snapshots stay: their age is counted in days with backups, so that no clock and no pause makes them old."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from app.backup.choice import HOUR, NEVER, Recoveries, believed, last_of_hours
from app.backup.restic import Snapshot
from app.backup.settings import Settings

# The oldest moment needs a base backup from before it, and all log since.
BEYOND_DAYS = 2
# What has been proven is asked for long after what was proven with it is gone.
EVIDENCE_DAYS = 400
# For so long every snapshot of the log stays, then the last of each hour.
ALL = timedelta(hours=2)
LONGEST_PAUSE = 2


@dataclass(frozen=True)
class Past:
    """What every repository is measured by; it comes from this host's own, into which nobody else writes."""

    days: frozenset[date] = frozenset()
    """On which log was taken."""
    base: datetime | None = None
    """The newest base backup: it stays however old it is, and so does the log since."""
    recoveries: Recoveries = NEVER


def past_of(logs: Sequence[Snapshot], bases: Sequence[Snapshot], recoveries: Recoveries, now: datetime) -> Past:
    """From the snapshots of both, oldest first."""
    newest = believed(bases, now)[-1:]
    return Past(_days(believed(logs, now)), newest[0].at if newest else None, recoveries)


def jump(past: Past) -> str:
    """Why nothing can be forgotten today: the days go on after a leap; empty: they do not."""
    for before, after in pairwise(sorted(past.days)[-3:]):
        if (after - before).days > LONGEST_PAUSE:
            return (
                f"clock = {after}, backups stood still for {(after - before).days} days, so nothing was forgotten; the "
                "right time is needed, and where it is right nothing, a few days on all goes on; chronyc tracking"
            )
    return ""


def days_of(settings: Settings, kind: str) -> int:
    """For how many days a kind of repository keeps what it has."""
    return EVIDENCE_DAYS if kind == "evidence" else settings.retention.days + BEYOND_DAYS


def unwanted(known: Sequence[Snapshot], kind: str, days: int, past: Past, now: datetime) -> list[str]:
    """
    Ids of those that may go, of all of a repository, oldest first.

    By age alone, never by number: whoever can only add could push the good ones out with many of his own. An age is
    counted in days with backups, so that nothing goes while nothing comes, or after a leap of the clock. The newest
    stays, and what claims to be of a time to come counts for nothing and stays too.
    """
    there = believed(known, now)
    if not there:
        return []
    seen = past.days | _days(there)
    kept = {there[-1].id}
    for one in there:
        needed = kind == "wal" and past.base is not None and one.at >= past.base - HOUR
        if needed or sum(day > one.at.astimezone(UTC).date() for day in seen) <= days:
            kept.add(one.id)
    if kind == "wal":
        hourly = {one.id for one in last_of_hours(there, past.recoveries)}
        kept -= {one.id for one in there if one.id not in hourly and one.at < there[-1].at - ALL}
    return [one.id for one in there if one.id not in kept]


def _days(known: Iterable[Snapshot]) -> frozenset[date]:
    return frozenset(one.at.astimezone(UTC).date() for one in known)
