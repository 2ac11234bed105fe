"""The spool of received log: is it whole, where does it go on, and what may leave it."""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from app.backup.settings import Settings

# initdb's default, which Patroni leaves as it is.
SEGMENT_BYTES = 16 * 1024 * 1024
PER_LOG_FILE = 0x1_0000_0000 // SEGMENT_BYTES
NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
SWITCH = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)
# The first page of a segment: a header of 24 bytes, then the cluster's own number.
SYSTEM_AT, SYSTEM_BYTES = 24, 8


@dataclass(frozen=True, order=True)
class Segment:
    """One file of the log."""

    timeline: int
    number: int
    whole: bool
    """False: the file ends in .partial, and is still written or was when its timeline ended."""

    @property
    def name(self) -> str:
        """As PostgreSQL names it."""
        log, segment = divmod(self.number, PER_LOG_FILE)
        return f"{self.timeline:08X}{log:08X}{segment:08X}{'' if self.whole else '.partial'}"

    @property
    def start(self) -> int:
        """Its first byte's place in the log."""
        return self.number * SEGMENT_BYTES


@dataclass(frozen=True)
class Gap:
    """Between these two there is log that nobody has."""

    after: Segment
    before: Segment

    def __str__(self) -> str:
        return f"between {self.after.name} and {self.before.name}"


@dataclass(frozen=True)
class Spool:
    """What a spool holds, oldest first."""

    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    left: Mapping[int, int] = field(default_factory=dict)
    """Where the newest timeline's history left those before it."""

    @property
    def whole_since(self) -> int | None:
        """From that place in the log on nothing is missing; None: there is nothing."""
        if self.gaps:
            return self.gaps[-1].before.start
        return self.segments[0].start if self.segments else None


@dataclass(frozen=True)
class Base:
    """Where the newest base backup begins and ends."""

    system: int
    start: int
    timeline: int = 0
    """At its end; nothing where an older release took it."""
    stop: int = 0


def segment_of(name: str) -> Segment | None:
    """The segment of that file name, None for any other file."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    timeline, log, segment = (int(part, 16) for part in found.groups()[:3])
    return Segment(timeline, log * PER_LOG_FILE + segment, whole=not found[4])


def position(text: str) -> int:
    """A place in the log, as in 0/5D00028."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def written(place: int) -> str:
    """The same as PostgreSQL writes it."""
    return f"{place >> 32:X}/{place & 0xFFFF_FFFF:X}"


def examine(folder: Path) -> Spool:
    """What the folder holds, and where something is missing between."""
    found = (segment_of(path.name) for path in folder.iterdir())
    segments = tuple(sorted(segment for segment in found if segment))
    newest = max((path for path in folder.iterdir() if HISTORY.fullmatch(path.name)), default=None)
    return Spool(segments, gaps(segments), switches(newest.read_text(encoding="utf-8")) if newest else {})


def switches(history: str) -> dict[int, int]:
    """Where each earlier timeline was left, by its number."""
    return {int(number): position(place) for number, place in SWITCH.findall(history)}


def gaps(segments: Iterable[Segment]) -> tuple[Gap, ...]:
    """
    Where something is missing.

    A new timeline begins in the segment in which the old one ended, or in the one after it when that was just full.
    What follows a segment was begun when that one was full, whatever the timelines are.
    """
    return tuple(
        Gap(before, after)
        for before, after in pairwise(sorted(segments))
        if after.number > before.number + 1 or (after.number == before.number + 1 and not before.whole)
    )


def system_of(folder: Path) -> int | None:
    """The number of the cluster whose log lies there; None: no segment has a first page yet."""
    for segment in reversed(examine(folder).segments):
        with (folder / segment.name).open("rb") as file:
            head = file.read(SYSTEM_AT + SYSTEM_BYTES)
        if len(head) == SYSTEM_AT + SYSTEM_BYTES and (system := struct.unpack_from("<Q", head, SYSTEM_AT)[0]):
            return int(system)
    return None


def base_of(settings: Settings) -> Base | None:
    """The newest base backup, as its maker told; None: nobody knows of one."""
    try:
        told = json.loads(settings.newest_base.read_text(encoding="utf-8"))
        ended = (told.get("timeline", 0), position(told.get("stopped_lsn", "0/0")))
        return Base(int(told["system_identifier"]), position(told["started_lsn"]), *ended)
    except (OSError, ValueError, KeyError):
        return None


def uncovered(spool: Spool, system: int | None, base: Base | None) -> str:
    """Why no base backup goes together with what the spool holds from its last gap on; empty: one does."""
    since = spool.whole_since
    if since is None:
        return ""
    if base is None:
        return "no base backup is known"
    if system is not None and base.system != system:
        return "the newest base backup is of another cluster"
    if base.stop > spool.left.get(base.timeline, base.stop):
        left = written(spool.left[base.timeline])
        return (
            f"the newest base backup is of timeline {base.timeline} beyond {left}, where the primary's history left it"
        )
    if base.start < since:
        return f"log is missing {spool.gaps[-1]}" if spool.gaps else f"log is missing before {spool.segments[0].name}"
    return ""


def mend(folder: Path) -> list[str]:
    """
    Empty what a full disk left of a new segment; its name, or nothing.

    A segment gets its whole length before its first byte, and pg_receivewal refuses one of another length for ever.
    """
    broken = [
        path
        for path in folder.glob("*.partial")
        if segment_of(path.name) and path.stat().st_size not in {0, SEGMENT_BYTES}
    ]
    for path in broken:
        with path.open("r+b") as file:
            file.truncate(0)
    return [path.name for path in broken]


def go_on_at(folder: Path, name: str) -> None:
    """Let pg_receivewal go on at the beginning of this segment: it looks for the newest one, and takes it if empty."""
    (folder / f"{name}.partial").touch(exist_ok=True)


def set_aside(settings: Settings, names: Iterable[str], why: str) -> Path:
    """Move files out of the spool; nothing is deleted."""
    to = settings.aside / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{why}"
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        (settings.spool / name).rename(to / name)
    return to


def beyond(spool: Spool, timeline: int, fork: int) -> list[str]:
    """
    What this timeline has after the place where the primary's history left it: nobody acknowledged that.

    A whole segment goes too when the place lies in it, because pg_receivewal would go on behind it.
    """
    return [
        segment.name
        for segment in spool.segments
        if segment.timeline == timeline and segment.start + (SEGMENT_BYTES if segment.whole else 0) > fork
    ]


def trim(folder: Path, old: Iterable[Segment]) -> int:
    """Delete these, which the caller has seen in the repository; how many. Histories are small and stay."""
    names = [segment.name for segment in old]
    for name in names:
        (folder / name).unlink()
    return len(names)
