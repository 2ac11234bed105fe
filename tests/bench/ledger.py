"""What the ledger says afterwards: lost, doubled, who acknowledged, and how long nobody did. Pure functions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True)
class Write:
    """A write that PostgreSQL acknowledged; times are seconds of the clock that all machines share."""

    id: str
    started: float
    ended: float
    member: str
    timeline: int


@dataclass(frozen=True)
class Verdict:
    """What is wrong with the stored rows, and with the order of the acknowledgements."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    second_primary: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.second_primary)


def judge(writes: Sequence[Write], stored: Iterable[str]) -> Verdict:
    """The verdict on acknowledged writes, given the id of every row that a whole cluster still has."""
    rows = Counter(stored)
    return Verdict(lost(writes, rows), doubled(rows), second_primary(writes))


def lost(writes: Sequence[Write], rows: Counter[str]) -> tuple[str, ...]:
    """Ids that were acknowledged and are not there."""
    return tuple(sorted({write.id for write in writes} - rows.keys()))


def doubled(rows: Counter[str]) -> tuple[str, ...]:
    """Ids that are there more than once."""
    return tuple(sorted(name for name, count in rows.items() if count > 1))


def second_primary(writes: Sequence[Write]) -> tuple[str, ...]:
    """
    Where two members acknowledged side by side, one line for each pair of them.

    A promotion begins a timeline and belongs to one member, so two members on one timeline are two primaries; and
    a write that began on an older timeline after a newer one had acknowledged was let in by a primary that was over.
    """
    found: dict[tuple[str, str], str] = {}
    owner: dict[int, Write] = {}
    for write in sorted(writes, key=lambda write: write.ended):
        first = owner.setdefault(write.timeline, write)
        if first.member != write.member:
            line = f"{first.member} and {write.member} both acknowledged on timeline {write.timeline}"
            found.setdefault((first.member, write.member), line)
    # Every acknowledgement, oldest first, beside every beginning, oldest first: the newest timeline that had
    # acknowledged before each beginning.
    ends = sorted(writes, key=lambda write: write.ended)
    newest: Write | None = None
    place = 0
    for write in sorted(writes, key=lambda write: write.started):
        while place < len(ends) and ends[place].ended < write.started:
            if newest is None or ends[place].timeline > newest.timeline:
                newest = ends[place]
            place += 1
        if newest and write.timeline < newest.timeline:
            line = (
                f"{write.member} acknowledged on timeline {write.timeline} what began "
                f"{write.started - newest.ended:.2f} s after {newest.member} had acknowledged on {newest.timeline}"
            )
            found.setdefault((write.member, newest.member), line)
    return tuple(found.values())


def longest_gap(moments: Iterable[float], begin: float, end: float) -> float:
    """The longest time without a success between two moments; both edges count, so silence at the end is seen."""
    inside = [begin, *sorted(moment for moment in moments if begin < moment < end), end]
    return max(after - before for before, after in pairwise(inside))


@dataclass(frozen=True)
class Collections:
    """What became of the names that were sent to the API."""

    acknowledged: int
    missing: tuple[str, ...]
    doubled: tuple[str, ...]
    refused: tuple[str, ...]
    """Answered as taken although nobody else has that name and no earlier try had failed."""


def judge_collections(acknowledged: Sequence[str], refused: Sequence[str], listed: Iterable[str]) -> Collections:
    """The verdict on collections, given every name that the API lists afterwards."""
    rows = Counter(listed)
    ours = {*acknowledged, *refused}
    return Collections(
        len(acknowledged),
        tuple(name for name in acknowledged if name not in rows),
        tuple(sorted(name for name in ours if rows[name] > 1)),
        tuple(refused),
    )


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The least, the middle and the most."""
    return min(values), median(values), max(values)
