"""What two backup hosts wrote down of recoveries, the second without the first one's, told as one history."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.backup.recoveries import together

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASES = [NOON + number * HOUR for number in (-5, 1, 4)]


def record(at: datetime, *breaks: tuple[datetime, datetime], base: str = "b", done: bool = True) -> dict[str, Any]:
    pairs = [[before.isoformat(), after.isoformat()] for before, after in breaks]
    began = (at + HOUR / 2).isoformat()
    return {"at": at.isoformat(), "base": base, "log": "l", "began": began, "done": done, "breaks": pairs}


def test_the_newest_recovery_is_gone_back_from_and_all_breaks_are_known() -> None:
    first = record(NOON - 9 * HOUR, (NOON - 9 * HOUR, NOON - 8 * HOUR), base="first")
    second = record(NOON, (NOON, NOON + HOUR), base="second")

    for told in ([first, second], [second, first]):
        found = together(told, list)
        assert (found["base"], found["done"]) == ("second", True)
        assert found["breaks"] == [*first["breaks"], *second["breaks"]]


def test_a_recovery_whose_end_nobody_wrote_down_ends_with_the_base_after_it() -> None:
    lost, second = record(NOON, done=False), record(NOON + 3 * HOUR, (NOON + 3 * HOUR, NOON + 4 * HOUR))

    found = together([lost, second], lambda: BASES)

    assert found["breaks"] == [[NOON.isoformat(), (NOON + HOUR).isoformat()], *second["breaks"]]


def test_each_step_of_one_recovery_takes_the_place_of_the_step_before() -> None:
    begun, done = record(NOON, done=False), record(NOON, (NOON, NOON + HOUR))

    assert together([begun, done], list) == done
    assert together([begun], list) == begun
    assert together([], list) == {}


def test_what_an_older_release_wrote_down_is_understood() -> None:
    old = {name: value for name, value in record(NOON).items() if name != "began"}

    assert together([old, record(NOON + HOUR)], lambda: BASES)["breaks"] == [[NOON.isoformat(), BASES[1].isoformat()]]
