"""Waiting for a server no longer than that, whatever its machine's network still says in its name."""

import contextlib
import heapq
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any


@dataclass(order=True)
class _Wait:
    """A connection's line, and when its time is over; without a line nobody waits any more."""

    until: float
    line: socket.socket | None = field(compare=False)


class _Watch:
    """All waits of a process under one thread: one for each would cost as much as a short statement."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know of no wait; a forked process has none of its parent's threads."""
        self._changed = Condition()
        self._waits: list[_Wait] = []
        self._thread: Thread | None = None

    def begin(self, seconds: float, line: socket.socket) -> _Wait:
        wait = _Wait(time.monotonic() + seconds, line)
        with self._changed:
            if self._thread is None:
                # At the first wait: no thread outlives the fork of the processes that serve.
                thread = Thread(target=self._run, name="patience", daemon=True)
                thread.start()
                self._thread = thread
            heapq.heappush(self._waits, wait)
            if self._waits[0] is wait:
                self._changed.notify()
        return wait

    def end(self, wait: _Wait) -> None:
        with self._changed:
            wait.line = None

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._waits and (self._waits[0].line is None or self._waits[0].until <= now):
                    over = heapq.heappop(self._waits)
                    if over.line:
                        with contextlib.suppress(OSError):
                            over.line.shutdown(socket.SHUT_RDWR)
                self._changed.wait(self._waits[0].until - now if self._waits else None)


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.begin_anew)


@contextmanager
def no_longer_than(seconds: float, connection: Any) -> Iterator[None]:
    """Hang up when the time is over. TCP never would: the machine of a frozen server still answers in its name."""
    # A descriptor of its own: by then the connection's number may belong to another.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        wait = _watch.begin(seconds, line)
        try:
            yield
        finally:
            _watch.end(wait)
