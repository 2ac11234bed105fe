"""Which servers show what they should: all that the primary had written a while ago.

Neither the time of the last transaction that a replica replayed says so, which an idle primary lets grow old, nor that
it is connected, which it also is when it replays nothing.
"""

import threading
import time
from collections import deque

# Where a replica is; nothing for a primary, which shows all there is.
SHOWN = "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() - '0/0' end"
WRITTEN = "select pg_current_wal_flush_lsn() - '0/0'"


class Freshness:
    """Positions of the primary's log, as they were seen."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: deque[tuple[float, int]] = deque()
        self._begun = False
        self._lock = threading.Lock()

    def note(self, written: int) -> None:
        """The primary is there now."""
        now = time.monotonic()
        with self._lock:
            # A new primary may begin before the end of the old one.
            while self._seen and self._seen[-1][1] > written:
                self._seen.pop()
            # Who has just begun would believe a replica that stopped hours ago for as long as the bound.
            self._seen.append((now if self._begun else now - self._seconds, written))
            self._begun = True
            # Of those that are old enough to count the newest says all.
            while len(self._seen) > 1 and self._seen[1][0] <= now - self._seconds:
                self._seen.popleft()

    def is_stale(self, shown: int | None) -> bool:
        """Whether a server that is there lacks something of longer ago than the bound."""
        oldest = time.monotonic() - self._seconds
        with self._lock:
            due = [written for seen, written in self._seen if seen <= oldest]
        return shown is not None and bool(due) and shown < due[-1]
