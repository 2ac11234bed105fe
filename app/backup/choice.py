"""Which snapshots bring a moment back: a base from before it, and the log from there until after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

HOUR = timedelta(hours=1)

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


class OutsideError(ValueError):
    """No snapshots bring that moment back; the message is one line with the window that they do."""


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


def window_of(bases: Sequence[Taken], logs: Sequence[Taken]) -> Window:
    """The window of these snapshots, both oldest first; raise OutsideError where there is none."""
    first = next((base for base in bases if logs and base.at <= logs[-1].at), None)
    if first is None:
        what = "no base backup" if not bases else "no log of after the base backup"
        raise OutsideError(f"backups = {what}; one of each is needed; systemctl start rag-base on the backup host")
    return Window(first.at, logs[-1].at)


def choose(bases: Sequence[Taken], logs: Sequence[Taken], to: datetime | None, breaks: Sequence[Break] = ()) -> Choice:
    """The snapshots for ``to``, or for the newest moment that there is; raise OutsideError where there are none."""
    window = window_of(bases, logs)
    for before, after in breaks:
        if to is not None and before < to < after:
            raise OutsideError(
                f"TO = {said(to)}; the site was being recovered until {said(after)}, a moment after that is needed, "
                f"or one until {said(before)}; make restore with one of these"
            )
    if to is not None and not window.first <= to <= window.last:
        raise OutsideError(f"TO = {said(to)}; a moment from {window} is needed, or latest; make restore TO=latest")
    last = next(log for log in logs if log.at >= to) if to else logs[-1]
    base = [base for base in bases if base.at <= (to or last.at)][-1]
    return Choice(base.id, (last.id,), to)


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
