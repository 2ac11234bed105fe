"""API keys in use: when each was used last, by the hour, and which this process has found good of late."""

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

from app.api.later import Later
from app.store import keys
from app.store.keys import Key, Sent

HOUR_SECONDS = 3600.0
MOST_REMEMBERED = 10_000


@dataclass
class KeyUses:
    """When this process wrote down last that a key is in use."""

    noted: dict[UUID, float] = field(default_factory=dict)
    known: OrderedDict[Sent, bool] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, later: Later, key: Key) -> None:
        """Write down that the key is in use, unless that was done within the hour."""
        now = time.monotonic()
        if now < self.noted.get(key.id, -math.inf) + HOUR_SECONDS:
            return
        self.noted[key.id] = now
        later.write("key use", lambda connection: keys.used(connection, key.id))

    def found(self, sent: Sent, *, good: bool) -> None:
        """Remember what was found out about the key."""
        with self.lock:
            self.known.pop(sent, None)
            # Of strangers' there may be any number.
            if good or sent.marked:
                self.known[sent] = good
            if len(self.known) > MOST_REMEMBERED:
                self.known.popitem(last=False)

    def trusts(self, sent: Sent) -> bool:
        """Whether the key was good when it came last, or is one of this site's that comes for the first time."""
        with self.lock:
            return self.known.get(sent, sent.marked)
