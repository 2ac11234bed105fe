"""Waiting for a NOTIFY; where the server cannot send one, a plain wait takes its place."""

import contextlib
import select
import threading
import time

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

# The longest a stop signal goes unnoticed.
SLICE_SECONDS = 0.5


class Listener:
    """Wakes on one channel. Holds one connection to the primary and finds a new one when it is lost."""

    def __init__(self, primary: Engine, channel: str, stopping: threading.Event) -> None:
        self._primary = primary
        self._channel = channel
        self._stopping = stopping
        self._connection: Connection | None = None

    def wait(self, seconds: float) -> None:
        """Return on a notification, a stop, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            try:
                if self._notified(min(left, SLICE_SECONDS)):
                    return
            except (SQLAlchemyError, OSError, ValueError, self._driver_error()):
                self.close()
                self._stopping.wait(min(left, SLICE_SECONDS))

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.invalidate()
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

    def _notified(self, seconds: float) -> bool:
        if self._connection is None:
            self._connection = self._primary.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.execute(text(f"listen {self._channel}"))
        driver = self._connection.connection.driver_connection
        if driver is None:
            return False
        if not driver.notifies and select.select([driver], [], [], seconds)[0]:
            driver.poll()
        told = bool(driver.notifies)
        driver.notifies.clear()
        return told

    def _driver_error(self) -> type[Exception]:
        error: type[Exception] = self._primary.dialect.loaded_dbapi.Error
        return error
