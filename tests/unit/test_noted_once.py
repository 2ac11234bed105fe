"""What the audit has already of who does something again and again."""

from uuid import UUID

import pytest

from app.api import noted
from app.api.noted import Noted

ADA, BOB, LETTER, PLAN = (UUID(int=number) for number in range(4))


def test_who_does_the_same_again_is_noted_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(noted.time, "monotonic", lambda: now[0])
    seen = Noted()

    assert [seen.is_new(ADA, LETTER) for _ in range(3)] == [True, False, False]
    assert [seen.is_new(ADA, PLAN), seen.is_new(BOB, LETTER)] == [True, True]
    now[0] = noted.HOUR_SECONDS
    assert [seen.is_new(ADA, LETTER) for _ in range(2)] == [True, False]


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noted, "MOST_REMEMBERED", 2)
    seen = Noted()

    assert [seen.is_new(ADA, UUID(int=number)) for number in range(5)] == [True] * 5
    assert len(seen.at) == 2
