"""Which snapshots bring a moment back: a base from before it, and the log from there until after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

HOUR = timedelta(hours=1)
AHEAD = timedelta(minutes=5)
"""By how much the clock of who took a snapshot may be ahead; what is further ahead comes from a wrong one, or lies."""
PROOF = timedelta(seconds=30)
"""Until then a write follows: a canary comes every ten seconds, and is in the snapshot after it."""
LATEST = timedelta(hours=24)
"""By how much a receiver may have been behind."""

Break = tuple[datetime, datetime]
"""From the last backup that a recovery in place took to the base after it: what was written between has no base."""


class Taken(Protocol):
    """A snapshot, as far as the choice goes."""

    @property
    def id(self) -> str:
        """Names it in its repository."""

    @property
    def at(self) -> datetime:
        """When it was begun."""


Any = TypeVar("Any", bound=Taken)


class OutsideError(ValueError):
    """No snapshots bring that moment back; the message is one line with the window that they do."""


@dataclass(frozen=True)
class Recoveries:
    """When the site was recovered in place: after each, the log may be that of another history."""

    breaks: tuple[Break, ...] = ()
    last: datetime | None = None
    """The last backup that the newest of them took; that one may never have come to its end."""

    @property
    def ends(self) -> tuple[datetime, ...]:
        """Up to each of these the log is of one history."""
        return (*(before for before, _ in self.breaks), *((self.last,) if self.last else ()))

    def end_after(self, moment: datetime) -> datetime | None:
        """Where the history ends that the moment is in; None: it still goes on."""
        return min((end for end in self.ends if end >= moment), default=None)


NEVER = Recoveries()


@dataclass(frozen=True)
class Window:
    """From when to when any moment can be brought back."""

    first: datetime
    last: datetime

    def __str__(self) -> str:
        return f"{said(self.first)} to {said(self.last)}"


@dataclass(frozen=True)
class Choice:
    """A base, the snapshots of the log beside it, oldest first, and where the log stops; none: at its end."""

    base: str
    log: tuple[str, ...]
    target: datetime | None


def said(moment: datetime) -> str:
    """As a person reads it and may type it again."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")


def believed(known: Sequence[Any], now: datetime) -> list[Any]:
    """Without those that claim to be of a time to come."""
    return [one for one in known if one.at <= now + AHEAD]


def last_of_hours(known: Sequence[Any], recoveries: Recoveries = NEVER) -> list[Any]:
    """The last of each hour, and the last before each recovery in place; of those that are oldest first."""
    found = {
        (one.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0), recoveries.end_after(one.at)): one
        for one in known
    }
    return list(found.values())


def window_of(bases: Sequence[Taken], logs: Sequence[Taken]) -> Window:
    """The window of these snapshots, both oldest first; raise OutsideError where there is none."""
    first = next((base for base in bases if logs and base.at <= logs[-1].at), None)
    if first is None:
        what = "no base backup" if not bases else "no log of after the base backup"
        raise OutsideError(f"backups = {what}; one of each is needed; systemctl start rag-base on the backup host")
    return Window(first.at, logs[-1].at)


def choose(
    bases: Sequence[Taken], logs: Sequence[Taken], to: datetime | None, recoveries: Recoveries = NEVER
) -> Choice:
    """The snapshots for ``to``, or for the newest moment that there is; raise OutsideError where there are none."""
    window = window_of(bases, logs)
    for before, after in recoveries.breaks:
        if to is not None and before < to < after:
            raise OutsideError(
                f"TO = {said(to)}; the site was being recovered until {said(after)}, a moment after that is needed, "
                f"or one until {said(before)}; make restore with one of these"
            )
    if to is not None and not window.first <= to <= window.last:
        raise OutsideError(f"TO = {said(to)}; a moment from {window} is needed, or latest; make restore TO=latest")
    if to is None:
        return Choice([base for base in bases if base.at <= logs[-1].at][-1].id, (logs[-1].id,), None)
    reaching = _of_its_history(logs, to, recoveries)
    if not reaching:
        end = recoveries.end_after(to)
        earlier = [log.at for log in logs if log.at < to]
        until = f"one until {said(earlier[-1])}" if earlier else f"one from {window}"
        raise OutsideError(
            f"TO = {said(to)}; the log from there until the recovery at {said(end or to)} is not in the repository, "
            f"{until} or after that recovery is needed; make restore with one of these"
        )
    return Choice([base for base in bases if base.at <= to][-1].id, (reaching[0].id,), to)


def _of_its_history(logs: Sequence[Taken], to: datetime, recoveries: Recoveries) -> list[Taken]:
    """Snapshots of after the moment, up to the recovery that made another history."""
    end = recoveries.end_after(to)
    return [log for log in logs if to <= log.at and (end is None or log.at <= end)]


def with_earlier(choice: Choice, bases: Sequence[Taken], logs: Sequence[Taken]) -> Choice:
    """The same with one snapshot of the log for each hour since the base: the last one alone begins too late."""
    since = next(base.at for base in bases if base.id == choice.base)
    until = next(log.at for log in logs if log.id == choice.log[-1])
    hourly: dict[int, str] = {}
    for log in logs:
        if since - HOUR <= log.at <= until:
            hourly[int(log.at.timestamp()) // 3600] = log.id
    return Choice(
        choice.base, (*(one for one in hourly.values() if one != choice.log[-1]), choice.log[-1]), choice.target
    )


def later(choice: Choice, logs: Sequence[Taken], recoveries: Recoveries = NEVER) -> list[tuple[str, ...]]:
    """
    What more of the log there is for a moment that the chosen one does not reach, in the order in which it is tried.

    The receiver may have been behind when the first snapshot of after the moment was taken.
    """
    if choice.target is None:
        return []
    reaching = [log for log in _of_its_history(logs, choice.target, recoveries) if log.id not in choice.log]
    soon = [log for log in reaching if log.at >= choice.target + PROOF][:1]
    rest = last_of_hours([log for log in reaching if log.at <= choice.target + LATEST])
    stages = (soon, [log for log in rest if log not in soon])
    return [tuple(log.id for log in stage) for stage in stages if stage]
