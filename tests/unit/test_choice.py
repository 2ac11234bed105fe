"""Which snapshots bring a moment back, and which moments none do."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from app.backup.choice import OutsideError, choose, window_of, with_earlier

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
    breaks = [(DAY + timedelta(hours=10), DAY + timedelta(hours=12))]

    assert choose(BASES, LOGS, DAY + timedelta(hours=10), breaks).base == "first"
    assert choose(BASES, LOGS, DAY + timedelta(hours=12), breaks).base == "first"
    with pytest.raises(OutsideError, match="the site was being recovered until 2026-11-22 12:00:00"):
        choose(BASES, LOGS, DAY + timedelta(hours=11), breaks)
