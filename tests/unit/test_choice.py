"""Which snapshots bring a moment back, and which moments none do."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from app.backup.choice import OutsideError, Recoveries, believed, choose, last_of_hours, later, window_of, with_earlier

DAY = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True)
class Taken:
    id: str
    at: datetime


def at(hours: float, name: str) -> Taken:
    return Taken(name, DAY + timedelta(hours=hours))


BASES = [at(1, "first"), at(25, "second")]
LOGS = [at(hour + 0.5, f"log{hour}") for hour in range(30)]


@pytest.mark.parametrize(
    ("hours", "base", "log"),
    [
        (8, "first", "log8"),
        (1, "first", "log1"),
        # Exactly when a snapshot was begun: what was committed then may be in the next one only.
        (24.5, "first", "log24"),
        (24.9, "first", "log25"),
        (25, "second", "log25"),
        (29.5, "second", "log29"),
    ],
)
def test_a_moment_comes_from_the_base_before_it_and_the_first_log_after_it(hours: float, base: str, log: str) -> None:
    moment = DAY + timedelta(hours=hours)

    found = choose(BASES, LOGS, moment)

    assert (found.base, found.log, found.target) == (base, (log,), moment)


def test_the_newest_moment_is_all_of_the_newest_log_on_the_newest_base() -> None:
    found = choose(BASES, LOGS, None)

    assert (found.base, found.log, found.target) == ("second", ("log29",), None)


def test_a_base_without_log_of_after_it_brings_nothing_back() -> None:
    later = [*BASES, at(40, "alone")]

    assert choose(later, LOGS, None).base == "second"
    with pytest.raises(OutsideError, match="no log of after the base backup"):
        window_of([at(40, "alone")], LOGS)
    with pytest.raises(OutsideError, match="no base backup"):
        window_of([], LOGS)


@pytest.mark.parametrize("hours", [0.9, 29.6])
def test_a_moment_outside_is_refused_with_the_window_that_is_there(hours: float) -> None:
    with pytest.raises(OutsideError) as refused:
        choose(BASES, LOGS, DAY + timedelta(hours=hours))

    assert "a moment from 2026-11-22 01:00:00+00:00 to 2026-11-23 05:30:00+00:00 is needed" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_log_that_begins_too_late_gets_one_of_each_hour_before_it() -> None:
    often = sorted([*LOGS, *(at(7.1 + minute / 60, f"minute{minute}") for minute in range(10))], key=lambda log: log.at)
    choice = choose(BASES, often, DAY + timedelta(hours=8.2))

    found = with_earlier(choice, BASES, often)

    assert found.base == "first"
    # From an hour before the base on, oldest first, so that what is there twice is the newer one.
    assert found.log == ("log0", "log1", "log2", "log3", "log4", "log5", "log6", "log7", "log8")


def test_what_was_written_while_the_site_was_recovered_is_refused() -> None:
    recoveries = Recoveries(((DAY + timedelta(hours=10.5), DAY + timedelta(hours=12)),))

    assert choose(BASES, LOGS, DAY + timedelta(hours=10), recoveries).base == "first"
    assert choose(BASES, LOGS, DAY + timedelta(hours=12), recoveries).base == "first"
    with pytest.raises(OutsideError, match="the site was being recovered until 2026-11-22 12:00:00"):
        choose(BASES, LOGS, DAY + timedelta(hours=11), recoveries)


@pytest.mark.parametrize("finished", [True, False])
def test_log_of_after_a_recovery_brings_no_moment_of_before_it_back(finished: bool) -> None:
    last, after = DAY + timedelta(hours=10.4), DAY + timedelta(hours=12)
    recoveries = Recoveries(((last, after),)) if finished else Recoveries(last=last)
    # The last backup itself is not there any more: the next log is of the cluster that was made from it.
    with pytest.raises(OutsideError) as refused:
        choose(BASES, LOGS, DAY + timedelta(hours=10), recoveries)

    assert "the log from there until the recovery at 2026-11-22 10:24:00+00:00 is not in the repository" in str(
        refused.value
    )
    assert "one until 2026-11-22 09:30:00+00:00 or after that recovery is needed" in str(refused.value)
    assert "\n" not in str(refused.value)
    kept = sorted([*LOGS, at(10.4, "last")], key=lambda log: log.at)
    assert choose(BASES, kept, DAY + timedelta(hours=10), recoveries).log == ("last",)
    assert later(choose(BASES, kept, DAY + timedelta(hours=10), recoveries), kept, recoveries) == []


def test_log_that_came_late_is_looked_for_in_the_next_snapshot_and_then_in_those_of_a_day() -> None:
    often = sorted([*LOGS, *(at(8 + minute / 60, f"minute{minute}") for minute in range(1, 4))], key=lambda log: log.at)
    choice = choose(BASES, often, DAY + timedelta(hours=8, seconds=50))

    assert choice.log == ("minute1",)
    soon, rest = later(choice, often)
    assert soon == ("minute2",)
    # The last of each hour, for a day.
    assert rest == tuple(f"log{hour}" for hour in range(8, 30))
    assert later(choose(BASES, often, None), often) == []


def test_the_last_of_each_hour_and_the_last_before_a_recovery_stay() -> None:
    known = [at(1.1, "a"), at(1.2, "b"), at(1.3, "last"), at(1.4, "c"), at(1.9, "d"), at(2.5, "e")]
    recoveries = Recoveries(((DAY + timedelta(hours=1.3), DAY + timedelta(hours=1.5)),))

    assert [one.id for one in last_of_hours(known)] == ["d", "e"]
    assert [one.id for one in last_of_hours(known, recoveries)] == ["last", "d", "e"]
    assert [one.id for one in last_of_hours(known, Recoveries(last=known[2].at))] == ["last", "d", "e"]


def test_a_snapshot_of_a_time_to_come_is_not_believed() -> None:
    known = [at(1, "a"), at(2.05, "a little ahead"), at(9000, "lies")]

    assert [one.id for one in believed(known, DAY + timedelta(hours=2))] == ["a", "a little ahead"]
