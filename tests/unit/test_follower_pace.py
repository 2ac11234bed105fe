"""How long rag-index rests between two rounds."""

from app.index.__main__ import MOMENT_SECONDS, pause
from app.index.follower import CHANGES_AT_ONCE, OTHERS_AT_ONCE


def test_a_few_changes_give_the_next_ones_a_moment_to_gather() -> None:
    assert pause([1], 0.2) == MOMENT_SECONDS - 0.2
    assert pause([CHANGES_AT_ONCE - 1, OTHERS_AT_ONCE - 1], 0.2) == MOMENT_SECONDS - 0.2
    assert pause([3], 5.0) == 0


def test_a_backlog_is_worked_off_without_a_rest() -> None:
    assert pause([CHANGES_AT_ONCE], 0.2) == 0
    assert pause([1, OTHERS_AT_ONCE], 0.2) == 0
