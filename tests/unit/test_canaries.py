"""What was acknowledged is remembered, little of it for long, and found out when it is gone."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.backup import canaries, watch
from app.backup.canaries import Canary, Memory
from app.backup.watch import State
from tests.unit.backups import settings_in

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def canary(number: int, later: float = 0) -> Canary:
    return Canary(number, NOON + timedelta(seconds=10 * number + later))


def test_few_are_kept_and_some_of_long_ago() -> None:
    memory = Memory(1)
    for number in range(1, 50_001):
        memory = memory.with_new(canary(number))

    numbers = [one.number for one in memory.kept]
    assert len(numbers) < 100
    assert numbers[-32:] == list(range(49_969, 50_001))
    # Three days back.
    assert numbers[0] <= 50_000 - 3 * 8640
    assert memory.lost == ()


def test_what_is_given_again_was_lost_with_all_after_it_and_stays_known() -> None:
    memory = Memory(1)
    for number in (1, 2, 3, 4, 5):
        memory = memory.with_new(canary(number))

    memory = memory.with_new(canary(4, later=60)).with_new(canary(5, later=60))

    assert [one.number for one in memory.kept] == [1, 2, 3, 4, 5]
    assert memory.lost == (canary(4), canary(5))
    assert canary(4) in memory.all


def test_it_is_read_as_it_was_written_and_a_file_of_half_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    memory = Memory(7, (canary(1), canary(2)), (canary(2, later=5),))

    canaries.write(path, memory)

    assert canaries.read(path) == memory
    path.write_text(path.read_text()[:30])
    assert canaries.read(path) is None
    assert canaries.read(tmp_path / "none") is None


def test_a_receiver_that_comes_back_finds_out_what_was_lost_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_in(tmp_path)
    watch._remember(settings, State(), canary(7), system=1)

    state = State()
    watch._remember(settings, state, canary(7, later=60), system=1)

    assert "canaries up to 7 of 2026-11-27 12:01:10+00:00 = acknowledged and no longer there" in capsys.readouterr().out
    assert not watch._well(state)
    assert watch._figures(settings, state)["rag_backup_canaries_lost"][1] == 1
    known = canaries.read(settings.canaries)
    assert known
    assert known.lost == (canary(7),)


def test_another_cluster_lost_nothing_of_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_in(tmp_path)
    watch._remember(settings, State(), canary(7), system=1)

    watch._remember(settings, State(), canary(1), system=2)

    assert capsys.readouterr().out == ""
    assert canaries.read(settings.canaries) == Memory(2, (canary(1),))
