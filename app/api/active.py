"""Who used this host lately, as its processes know together: a file for each person, whose time is the last use."""

import contextlib
import os
import time
from pathlib import Path
from uuid import UUID

WINDOW_SECONDS = 300
# A file's time is renewed no more often by one process.
NOTED_SECONDS = 15


class Active:
    """The people of the last five minutes; ``folder`` is on memory and shared by the processes of this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted: dict[UUID, float] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def note(self, person: UUID) -> None:
        """This person did something now."""
        now = time.monotonic()
        if self._noted.get(person, -NOTED_SECONDS) + NOTED_SECONDS <= now:
            self._noted[person] = now
            # A full or missing folder costs a figure, never somebody's request.
            with contextlib.suppress(OSError):
                (self._folder / str(person)).touch()

    def count(self) -> int:
        """How many people they are; those of long ago are forgotten."""
        oldest, found = time.time() - WINDOW_SECONDS, 0
        for entry in os.scandir(self._folder):
            # Another process may count at the same time.
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_mtime >= oldest:
                    found += 1
                else:
                    Path(entry.path).unlink()
        return found
