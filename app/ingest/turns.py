"""Turns at what only so many documents may do at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# The longest that a thread which waits does not notice that its work must end.
LOOK_SECONDS = 0.5


class End(Protocol):
    """What ends a wait: an event."""

    def is_set(self) -> bool:
        """Whether it came."""


class InterruptedWorkError(Exception):
    """The work must end here: the process stops, or the lease went to another worker."""


class Turns:
    """So many at a time."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def one(self, *ends: End) -> Iterator[None]:
        """Hold a turn; raise InterruptedWorkError when one of the events comes before any is free."""
        while not self._free.acquire(timeout=LOOK_SECONDS):
            if any(end.is_set() for end in ends):
                raise InterruptedWorkError
        try:
            yield
        finally:
            self._free.release()
