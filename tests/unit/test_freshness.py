"""When a server is behind."""

import time
from typing import Any

import pytest

from app.store import servers
from app.store.freshness import Freshness


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_replica_is_behind_that_lacks_what_is_older_than_the_bound(clock: Clock) -> None:
    freshness = Freshness(30)
    freshness.note(100)
    clock.now = 5
    freshness.note(200)

    assert not freshness.is_stale(100)
    clock.now = 34
    assert not freshness.is_stale(100)
    clock.now = 36
    assert freshness.is_stale(100)
    assert not freshness.is_stale(200)


def test_beside_an_idle_primary_nobody_falls_behind(clock: Clock) -> None:
    freshness = Freshness(30)
    for clock.now in range(0, 3600, 5):
        freshness.note(100)

    assert not freshness.is_stale(100)
    assert freshness.is_stale(99)


def test_what_the_last_primary_had_counts_without_one_too(clock: Clock) -> None:
    freshness = Freshness(30)
    freshness.note(100)
    clock.now = 3600

    assert freshness.is_stale(99)
    assert not freshness.is_stale(100)


def test_a_primary_that_begins_earlier_than_the_last_one_ended_makes_nobody_stale(clock: Clock) -> None:
    freshness = Freshness(30)
    freshness.note(100)
    clock.now = 40
    freshness.note(90)
    clock.now = 80

    assert not freshness.is_stale(95)
    assert freshness.is_stale(80)


def test_a_primary_is_never_behind(clock: Clock) -> None:
    freshness = Freshness(30)
    freshness.note(100)
    clock.now = 3600

    assert not freshness.is_stale(None)


def test_who_has_just_begun_leaves_a_replica_out_that_stopped_long_ago(clock: Clock) -> None:
    freshness = Freshness(30)
    freshness.note(100)

    assert freshness.is_stale(99)
    assert not freshness.is_stale(100)


def test_the_primary_is_followed_whatever_went_wrong_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    followed = servers.Servers(("db1", "db2"), 5432, 0.06)
    connections: list[Any] = [OSError("too many open files")]

    def connect(*_: object) -> object:
        for problem in connections:
            connections.remove(problem)
            raise problem
        return object()

    def asked(*_: object) -> int:
        raise SystemExit

    monkeypatch.setattr(followed, "connect", connect)
    monkeypatch.setattr(servers, "_asked", asked)
    with pytest.raises(SystemExit):
        followed._follow({})

    assert "OSError: too many open files" in caplog.text
