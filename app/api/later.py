"""Small writes that no request waits for: each waits for a primary a minute, and then is lost and counted."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine

from app import metrics
from app.store.database import Work, passing, writing

log = logging.getLogger(__name__)

MOST_WAITING = 1000
LONGEST_WAIT_SECONDS = 60.0
PAUSE_SECONDS = 1.0
# A commit that no replica confirms would otherwise hold up a stop for as long as a statement may take.
TRY_SECONDS = 3.0


class Later:
    """One thread, and a bounded line before it."""

    def __init__(self, primary: Engine) -> None:
        self._primary = primary.execution_options(patience=TRY_SECONDS)
        self._thread = ThreadPoolExecutor(1, "later")
        self._room = threading.Semaphore(MOST_WAITING)
        self._closing = threading.Event()
        self._hopeless = False

    def write(self, what: str, work: Work[object]) -> None:
        """Queue the work, which may run more than once; ``what`` names it in the journal when it is lost."""
        if self._room.acquire(blocking=False):
            self._thread.submit(self._write, what, work)
        else:
            metrics.LATER_LOST.labels(what).inc()

    @property
    def closing(self) -> bool:
        """Whether nothing more is taken."""
        return self._closing.is_set()

    def close(self) -> None:
        """Write what waits, until the first that no primary takes."""
        self._closing.set()
        self._thread.shutdown()

    def _write(self, what: str, work: Work[object]) -> None:
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        tried = False
        try:
            while True:
                if self._hopeless:
                    raise TimeoutError("the program ends")
                try:
                    writing(self._primary, work, 0, again=tried)
                    return
                except Exception as error:
                    if not passing(error) or time.monotonic() > end:
                        raise
                    if self._closing.is_set():
                        self._hopeless = True
                        raise
                tried = True
                self._closing.wait(PAUSE_SECONDS)
        except Exception as error:
            log.warning("%s = not written; a primary that takes it (%s)", what, " ".join(str(error).split())[:200])
            metrics.LATER_LOST.labels(what).inc()
        finally:
            self._room.release()
