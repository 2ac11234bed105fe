"""Canaries that a primary acknowledged, remembered on this host: what was acknowledged once is in every restore."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

# Of the last ones each, of those before fewer and fewer: three days back, in less than a hundred lines.
STEPS = (1, 32, 1024)
EACH = 32
MOST_LOST = 100


@dataclass(frozen=True)
class Canary:
    """A row whose commit a primary acknowledged."""

    number: int
    at: datetime


@dataclass(frozen=True)
class Memory:
    """What one cluster acknowledged, oldest first, and what of it was no longer there when the next one was written."""

    system: int
    kept: tuple[Canary, ...] = ()
    lost: tuple[Canary, ...] = ()

    @property
    def all(self) -> tuple[Canary, ...]:
        """Every one that must be there, with its time."""
        return tuple(sorted((*self.kept, *self.lost), key=lambda one: one.at))

    def with_new(self, new: Canary) -> "Memory":
        """
        The same after another one was acknowledged.

        Numbers go on from the newest that the database has. One that is given again is gone, and so is what came after
        it: nothing of the table itself would ever show that.
        """
        lost = tuple(one for one in self.kept if one.number >= new.number)
        earlier = tuple(one for one in self.kept if one.number < new.number and _stays(one.number, new.number))
        return replace(self, kept=(*earlier, new), lost=(*self.lost, *lost)[-MOST_LOST:])


def _stays(number: int, newest: int) -> bool:
    return any(number % step == 0 and newest - number < EACH * step for step in STEPS)


def read(path: Path) -> Memory | None:
    """What was remembered; None: nothing, or nothing that can be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kept, lost = (
            tuple(Canary(int(number), datetime.fromisoformat(at)) for number, at in told[name])
            for name in ("kept", "lost")
        )
        return Memory(int(told["system"]), kept, lost)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, memory: Memory) -> None:
    """In one step; a machine that loses power here has forgotten, and learns anew."""
    told = {"system": memory.system} | {
        name: [(one.number, one.at.isoformat()) for one in those]
        for name, those in (("kept", memory.kept), ("lost", memory.lost))
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(told), encoding="utf-8")
    draft.replace(path)
