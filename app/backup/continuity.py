"""Whether WAL files follow on each other without a gap, from a base backup over every failover to the newest one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.backup.spool import HISTORY, SEGMENT_BYTES, Segment, position, segment_of, switches

LABEL = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) .*?^START TIMELINE: (\d+)", re.MULTILINE | re.DOTALL)

Histories = Mapping[int, Mapping[int, int]]
"""Of each timeline, where it left those before it."""


class GapError(Exception):
    """WAL is missing; the message is one line that names it."""


@dataclass(frozen=True)
class Start:
    """Where a base backup needs WAL from."""

    timeline: int
    lsn: int


@dataclass(frozen=True)
class Chain:
    """WAL without a gap, from its first to its last file."""

    segments: int
    timelines: int
    first: str
    last: str


def start_of(data: Path) -> Start:
    """What the base backup's label says."""
    try:
        found = LABEL.search((data / "backup_label").read_text())
    except OSError:
        found = None
    if not found:
        raise GapError(f"base backup = {data} without a backup_label; one that says where its WAL begins")
    return Start(int(found[2]), position(found[1]))


def chain(folder: Path, start: Start) -> Chain:
    """The WAL in this folder from ``start`` on; raise GapError where a part of it is missing."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    histories = {
        int(found[1], 16): switches((folder / name).read_text()) for name in sizes if (found := HISTORY.fullmatch(name))
    }
    return linked(sizes, histories, start)


def linked(sizes: Mapping[str, int], histories: Histories, start: Start) -> Chain:
    """The same for file names with their sizes."""
    segments = {found for name in sizes if (found := segment_of(name))}
    newest = _newest(segments, histories, start)
    begins = _begins(newest, histories.get(newest, {}), start)
    first = start.lsn // SEGMENT_BYTES
    # A timeline of which nothing but its history came ends where it begins, in a segment of the one before it.
    last = max(
        first,
        *(begin // SEGMENT_BYTES for begin in begins.values()),
        *(segment.number for segment in segments if segment.timeline == newest),
    )
    names: list[str] = []
    for number in range(first, last + 1):
        owners = [timeline for timeline, begin in begins.items() if begin // SEGMENT_BYTES <= number]
        if number == last:
            held = [one.timeline for one in segments if one.number == number and one.timeline in owners]
            owners = held or owners
        names.append(_present(sizes, Segment(max(owners), number, whole=True), is_last=number == last))
    return Chain(len(names), len(begins), names[0], names[-1])


def _present(sizes: Mapping[str, int], segment: Segment, *, is_last: bool) -> str:
    name = segment.name
    if name in sizes:
        if sizes[name] != SEGMENT_BYTES:
            raise GapError(f"WAL = {name} of {sizes[name]} bytes; {SEGMENT_BYTES}, as every whole segment has")
        return name
    if f"{name}.partial" not in sizes:
        raise GapError(f"WAL = without {name}; every segment since the base backup began")
    if not is_last:
        raise GapError(f"WAL = {name} not whole; all of it, since WAL after it is there")
    return f"{name}.partial"


def _newest(segments: Iterable[Segment], histories: Histories, start: Start) -> int:
    """The timeline at which a recovery to the latest ends: PostgreSQL looks for one history after the other."""
    newest = start.timeline
    while newest + 1 in histories:
        newest += 1
    beyond = max((segment.timeline for segment in segments), default=0)
    if beyond > newest:
        raise GapError(f"WAL = without {newest + 1:08X}.history; the history of every timeline up to {beyond}")
    return newest


def _begins(newest: int, history: Mapping[int, int], start: Start) -> dict[int, int]:
    """Where each timeline from the base's own to the newest begins."""
    if newest == start.timeline:
        return {newest: 0}
    if history.get(start.timeline, -1) < start.lsn:
        own = start.timeline
        raise GapError(f"WAL = a timeline {newest} that does not come from {own}, the base backup's; another base")
    ordered = sorted(timeline for timeline in history if timeline >= start.timeline)
    begins = {start.timeline: 0}
    for before, timeline in zip(ordered, [*ordered[1:], newest], strict=True):
        begins[timeline] = history[before]
    return begins
