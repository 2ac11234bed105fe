"""When an API key was used last, by the hour: no request waits for that to be written, and few write it."""

import math
import time
from dataclasses import dataclass, field
from uuid import UUID

from app.api.later import Later
from app.store import keys
from app.store.keys import Key

HOUR_SECONDS = 3600.0


@dataclass
class KeyUses:
    """When this process wrote down last that a key is in use."""

    noted: dict[UUID, float] = field(default_factory=dict)

    def note(self, later: Later, key: Key) -> None:
        """Write down that the key is in use, unless that was done within the hour."""
        now = time.monotonic()
        if now < self.noted.get(key.id, -math.inf) + HOUR_SECONDS:
            return
        self.noted[key.id] = now
        later.write("key use", lambda connection: keys.used(connection, key.id))
