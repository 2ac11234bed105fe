"""Before a password is hashed: whether guesses have come too fast; counted at the primary, without one here."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from app.api.problems import Problem
from app.store import guesses
from app.store.guesses import Source, Tally

# What one process keeps while there is no primary.
MOST_KEPT = 10_000


@dataclass
class Guard:
    """The wrong passwords that this process could not write down."""

    clock: Callable[[], float] = time.monotonic
    kept: OrderedDict[Source, tuple[int, float]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def let_through(self, one: Source, written: Tally) -> None:
        """Raise 429 while the next try, after those written down and those kept here, has to wait."""
        seconds = guesses.wait(self._with_kept(one, written))
        if seconds > 0:
            raise Problem(
                429,
                "sign-ins = too many wrong passwords; a pause",
                f"try again in {math.ceil(seconds)} s",
                retry=True,
                seconds=math.ceil(seconds),
            )

    def keep(self, one: Source) -> None:
        """Count a wrong password that no primary took."""
        with self.lock:
            wrong, _ = self._recent(one)
            self.kept[one] = (wrong + 1, self.clock())
            self.kept.move_to_end(one)
            while len(self.kept) > MOST_KEPT:
                self.kept.popitem(last=False)

    def forgive(self, one: Source) -> None:
        """Somebody showed the right password."""
        with self.lock:
            self.kept.pop(one, None)

    def _with_kept(self, one: Source, written: Tally) -> Tally:
        with self.lock:
            wrong, at = self._recent(one)
        if not wrong:
            return written
        return replace(written, wrong=written.wrong + wrong, age=self.clock() - at)

    def _recent(self, one: Source) -> tuple[int, float]:
        wrong, at = self.kept.get(one, (0, 0.0))
        return (wrong, at) if self.clock() - at < guesses.MINUTES * 60 else (0, 0.0)
