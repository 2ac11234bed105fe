"""What stands in the audit already: of what somebody does again and again, one entry an hour."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

HOUR_SECONDS = 3600.0
MOST_REMEMBERED = 10_000


@dataclass
class Noted:
    """Whose use of what this process wrote down within the hour."""

    at: OrderedDict[tuple[UUID, UUID], float] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_new(self, who: UUID, what: UUID) -> bool:
        """Whether it is to be written down now."""
        now = time.monotonic()
        with self.lock:
            before = self.at.get((who, what))
            if before is not None and now < before + HOUR_SECONDS:
                return False
            self.at[who, what] = now
            self.at.move_to_end((who, what))
            if len(self.at) > MOST_REMEMBERED:
                self.at.popitem(last=False)
            return True
