"""The spool of received log: what is missing is seen, what stops the receiver is put right, nothing is lost."""

import json
import socket
import struct
import threading
from pathlib import Path

import pytest

from app.backup import receive, spool
from app.backup.primary import Slot
from app.backup.receive import _mended
from app.backup.settings import Settings
from app.backup.spool import SEGMENT_BYTES, Base, Segment, examine, position, segment_of, uncovered, written
from app.backup.watch import State, want_base
from tests.unit.backups import settings_in

FIRST = "000000010000000000000002"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def fill(settings: Settings, *names: str) -> None:
    for name in names:
        (settings.spool / name).touch()


def missing(*names: str) -> list[str]:
    found = [segment for name in names if (segment := segment_of(name))]
    return [str(gap) for gap in spool.gaps(found)]


def test_a_segment_s_name_says_where_it_begins() -> None:
    found = segment_of("0000000A00000003000000FE.partial")

    assert found == Segment(10, 3 * 256 + 254, whole=False)
    assert found.name == "0000000A00000003000000FE.partial"
    assert written(found.start) == "3/FE000000"
    assert position("3/FE000000") == found.start
    assert segment_of("0000000A.history") is None


def test_what_follows_without_a_break_is_whole() -> None:
    assert not missing(FIRST, "000000010000000000000003", "000000010000000000000004.partial")
    # Over the end of a log file, and over two changes of the timeline: inside a segment, and at the end of one.
    assert not missing("0000000100000000000000FF", "000000010000000100000000")
    assert not missing(
        FIRST,
        "000000010000000000000003.partial",
        "000000020000000000000003",
        "000000020000000000000004",
        "000000030000000000000005.partial",
    )


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        ((FIRST, "000000010000000000000004"), f"between {FIRST} and 000000010000000000000004"),
        # The new timeline's own beginning is missing.
        (
            (f"{FIRST}.partial", "000000020000000000000003"),
            f"between {FIRST}.partial and 000000020000000000000003",
        ),
        ((FIRST, "000000020000000000000004"), f"between {FIRST} and 000000020000000000000004"),
        # A receiver that went on elsewhere left the segment unfinished that it was in.
        ((f"{FIRST}.partial", "000000010000000000000003"), f"between {FIRST}.partial and 000000010000000000000003"),
    ],
)
def test_what_is_missing_is_seen(names: tuple[str, ...], gap: str) -> None:
    assert missing(*names) == [gap]


def test_a_base_backup_covers_what_came_after_the_last_gap_alone(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000007", "000000010000000000000008.partial")
    here = examine(settings.spool)
    after = position("0/7000000")

    assert "no base backup" in uncovered(here, 1, None)
    assert "another cluster" in uncovered(here, 1, Base(2, after))
    assert f"between {FIRST} and" in uncovered(here, 1, Base(1, after - 1))
    assert uncovered(here, 1, Base(1, after + 40)) == ""


def test_a_base_backup_that_went_on_where_the_primary_s_history_left_is_no_base(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000003.partial", "000000020000000000000003.partial")
    (settings.spool / "00000002.history").write_text("1\t0/3A00000\tno recovery target specified\n")
    here, start = examine(settings.spool), position("0/2000028")

    assert uncovered(here, 1, Base(1, start, 1, position("0/3A00000"))) == ""
    assert uncovered(here, 1, Base(1, start, 2, position("0/3B00000"))) == ""
    assert "timeline 1 beyond 0/3A00000" in uncovered(here, 1, Base(1, start, 1, position("0/3A00100")))


def test_a_new_reason_for_a_base_backup_takes_the_place_of_an_old_one(settings: Settings) -> None:
    want_base(settings, "no base backup is known")
    first = settings.base_wanted.stat().st_mtime_ns
    want_base(settings, "no base backup is known")
    assert settings.base_wanted.stat().st_mtime_ns == first

    want_base(settings, "log is missing")

    assert settings.base_wanted.read_text() == "log is missing\n"


def test_a_watcher_that_breaks_ends_the_receiver_and_one_that_hangs_starves_its_watchdog(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("mistake")

    monkeypatch.setattr(receive, "watch", broken)
    stopping, state = threading.Event(), State()
    with pytest.raises(KeyError):
        receive._watching(settings, state, stopping)
    assert (stopping.is_set(), state.watched) == (True, False)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "systemd"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "systemd"))
        receive._feed(state)
        assert systemd.recv(100) == b"WATCHDOG=1"
        state.looked -= receive.HANGS_SECONDS
        receive._feed(state)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_a_spool_that_began_after_the_base_backup_is_not_covered(settings: Settings) -> None:
    fill(settings, "000000010000000000000008")
    settings.newest_base.write_text(json.dumps({"system_identifier": "5", "started_lsn": "0/7000028"}))

    assert uncovered(examine(settings.spool), 5, spool.base_of(settings)) == (
        "log is missing before 000000010000000000000008"
    )
    settings.newest_base.write_text("{")
    assert spool.base_of(settings) is None


def test_what_a_full_disk_left_of_a_segment_is_emptied_and_nothing_else(settings: Settings) -> None:
    fill(settings, f"{FIRST}.partial")
    short, whole = (
        settings.spool / "000000010000000000000003.partial",
        settings.spool / "000000010000000000000004.partial",
    )
    short.write_bytes(bytes(4096))
    with whole.open("wb") as file:
        file.truncate(SEGMENT_BYTES)

    assert spool.mend(settings.spool) == [short.name]

    assert short.stat().st_size == 0
    assert whole.stat().st_size == SEGMENT_BYTES


def test_the_log_itself_says_of_which_cluster_it_is(settings: Settings) -> None:
    assert spool.system_of(settings.spool) is None
    (settings.spool / FIRST).write_bytes(bytes(24) + struct.pack("<Q", 7123) + bytes(100))
    fill(settings, "000000010000000000000003.partial")

    assert spool.system_of(settings.spool) == 7123


def test_log_that_the_primary_removed_is_jumped_over_and_a_base_backup_is_wanted(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000003.partial")
    slot = Slot(lost=True, active=False, system=1, segment="000000020000000000000009")

    said = _mended(settings, slot, "ERROR: requested WAL segment 000000010000000000000003 has already been removed")

    assert "goes on at 000000020000000000000009" in said
    assert (settings.spool / "000000020000000000000009.partial").stat().st_size == 0
    assert "between 000000010000000000000003.partial and 000000020000000000000009" in settings.base_wanted.read_text()
    assert len(examine(settings.spool).gaps) == 1


def test_what_the_primary_s_history_left_out_is_moved_and_not_deleted(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000003", "000000010000000000000004.partial", "00000001.history")
    said = (
        "ERROR:  requested starting point 0/4000000 on timeline 1 is not in this server's history "
        "DETAIL:  This server's history forked from timeline 1 at 0/3A00000."
    )

    told = _mended(settings, Slot(lost=False, active=True, system=1, segment=FIRST), said)

    # The receiver goes on at the beginning of the third, in which the primary's history went another way.
    assert {path.name for path in settings.spool.iterdir()} == {FIRST, "00000001.history"}
    (aside,) = settings.aside.iterdir()
    assert {path.name for path in aside.iterdir()} == {"000000010000000000000003", "000000010000000000000004.partial"}
    assert str(aside) in told


def test_an_unfinished_segment_with_the_fork_in_it_stays(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000003.partial")

    assert spool.beyond(examine(settings.spool), 1, position("0/3A00000")) == []


def test_a_full_disk_says_where_to_look(settings: Settings) -> None:
    slot = Slot(lost=False, active=True, system=1, segment=FIRST)

    said = _mended(settings, slot, "error: could not write 8192 bytes: No space left on device")

    assert said.endswith(f"df -h {settings.folder}")


def test_a_receiver_that_was_let_go_says_that_the_disk_here_may_be_slow(settings: Settings) -> None:
    slot = Slot(lost=False, active=True, system=1, segment=FIRST)

    said = _mended(settings, slot, "error: could not receive data from WAL stream: server closed the connection")

    assert said.startswith("receiver = let go by the primary (")
    assert "a disk here that answers" in said


def test_what_is_too_old_leaves_the_spool_and_histories_stay(settings: Settings) -> None:
    fill(settings, FIRST, "000000010000000000000003", "000000020000000000000003", "000000020000000000000004.partial")
    fill(settings, "00000002.history")

    old = [segment_of(name) for name in (FIRST, "000000010000000000000003")]
    assert spool.trim(settings.spool, [one for one in old if one]) == 2
    assert {path.name for path in settings.spool.iterdir()} == {
        # As old as its namesake of the other timeline, and nobody has seen it in the repository.
        "000000020000000000000003",
        "000000020000000000000004.partial",
        "00000002.history",
    }
