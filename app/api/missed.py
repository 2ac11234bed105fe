"""A primary that was just not found: for a moment nobody else spends time on looking for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.store.database import Result, passing

MOMENT_SECONDS = 2.0


class NoPrimaryError(Exception):
    """No primary answers at this moment."""


@dataclass
class Missed:
    """Until when the primary counts as missing."""

    until: float = 0.0

    def unless(self, call: Callable[[], Result]) -> Result:
        """What the call gets of the primary; raise NoPrimaryError when it finds none, or somebody just did not."""
        if time.monotonic() < self.until:
            raise NoPrimaryError
        try:
            return call()
        except (DBAPIError, PoolTimeoutError) as error:
            if not passing(error):
                raise
            self.until = time.monotonic() + MOMENT_SECONDS
            raise NoPrimaryError from error
