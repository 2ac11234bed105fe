"""WAL is whole from a base backup to the newest file, or what is missing is named."""

from pathlib import Path

import pytest

from app.backup import continuity
from app.backup.continuity import GapError, Start, linked
from app.backup.spool import SEGMENT_BYTES, Segment

START = Start(1, 5 * SEGMENT_BYTES + 40)


def files(*segments: tuple[int, int], partial: tuple[int, int] | None = None) -> dict[str, int]:
    names = [Segment(timeline, number, whole=True).name for timeline, number in segments]
    names += [Segment(*partial, whole=False).name] if partial else []
    return dict.fromkeys(names, SEGMENT_BYTES)


def in_segment(number: int) -> int:
    return number * SEGMENT_BYTES + 1000


def test_one_timeline_ends_in_the_segment_that_is_still_written() -> None:
    found = linked(files((1, 4), (1, 5), (1, 6), partial=(1, 7)), {}, START)

    assert (found.segments, found.timelines) == (3, 1)
    assert found.last == "000000010000000000000007.partial"


def test_a_failover_leaves_a_partial_segment_that_the_next_timeline_has_whole() -> None:
    sizes = files((1, 5), (2, 6), (2, 7), partial=(1, 6))

    found = linked(sizes, {2: {1: in_segment(6)}}, START)

    assert (found.segments, found.timelines) == (3, 2)


def test_a_timeline_of_which_only_the_history_came_ends_in_the_one_before_it() -> None:
    found = linked(files((1, 5), partial=(1, 6)), {2: {1: in_segment(6)}}, START)

    assert found.last == "000000010000000000000006.partial"


def test_the_number_of_a_segment_goes_on_beyond_four_gigabytes() -> None:
    start = Start(1, 254 * SEGMENT_BYTES)

    assert linked(files((1, 254), (1, 255), (1, 256)), {}, start).last == "000000010000000100000000"


@pytest.mark.parametrize(
    ("sizes", "histories", "says"),
    [
        (files((1, 6)), {}, "without 000000010000000000000005"),
        (files((1, 5), (1, 7)), {}, "without 000000010000000000000006"),
        (files((1, 5), (2, 7)), {2: {1: in_segment(6)}}, "without 000000020000000000000006"),
        (files((1, 5), (1, 7), partial=(1, 6)), {}, "000000010000000000000006 not whole"),
        (files((1, 5), (2, 6)), {}, "without 00000002.history"),
        (files((1, 5), (3, 6)), {3: {1: in_segment(6)}}, "without 00000002.history"),
        (files((2, 5)), {2: {1: 4 * SEGMENT_BYTES}}, "does not come from 1"),
        (files((1, 5)) | {"000000010000000000000006": 17}, {}, "of 17 bytes"),
        ({}, {}, "without 000000010000000000000005"),
    ],
)
def test_what_is_missing_is_named(sizes: dict[str, int], histories: dict[int, dict[int, int]], says: str) -> None:
    with pytest.raises(GapError, match=says):
        linked(sizes, histories, START)


def test_a_folder_is_read_with_its_histories_and_the_base_with_its_label(tmp_path: Path) -> None:
    data, wal = tmp_path / "data", tmp_path / "wal"
    data.mkdir()
    wal.mkdir()
    (data / "backup_label").write_text(
        "START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\nCHECKPOINT LOCATION: 0/5000060\n"
        "BACKUP METHOD: streamed\nSTART TIMELINE: 1\n"
    )
    for name in files((1, 5), (2, 6)):
        with (wal / name).open("wb") as file:
            file.truncate(SEGMENT_BYTES)
    (wal / "00000002.history").write_text("1\t0/6000100\tno recovery target specified\n")

    found = continuity.chain(wal, continuity.start_of(data))

    assert (found.segments, found.timelines, found.last) == (2, 2, "000000020000000000000006")


def test_a_base_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GapError, match="backup_label"):
        continuity.start_of(tmp_path)
