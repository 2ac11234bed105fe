"""Verb ``window``: from when to when any moment can be brought back, as one JSON value on standard output."""

import json
import sys
from typing import Any

from app.backup import restic
from app.backup.choice import OutsideError, window_of
from app.backup.restore import known_of
from app.backup.settings import Settings


def run(settings: Settings) -> int:
    """Print the window; exit code 1 where no repository tells it."""
    try:
        print(json.dumps(window(settings)))
    except (OutsideError, restic.RepositoryError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def window(settings: Settings) -> dict[str, Any]:
    """From when to when any moment can be brought back, with the snapshots that bear it."""
    bases, logs = known_of(settings, "base"), known_of(settings, "wal")
    found = window_of(bases, logs)
    # By the names that they keep on a host that is built anew, where each is a copy.
    return {
        "first": found.first.isoformat(),
        "last": found.last.isoformat(),
        "bases": [{"id": base.original or base.id, "at": base.at.isoformat(), "bytes": base.bytes} for base in bases],
        "log": {
            "id": logs[-1].original or logs[-1].id,
            "at": logs[-1].at.isoformat(),
            "bytes": logs[-1].bytes,
            "snapshots": len(logs),
        },
    }
