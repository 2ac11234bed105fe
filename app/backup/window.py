"""Verb ``window``: from when to when any moment can be brought back, as one JSON value on standard output."""

import json
import sys

from app.backup import restic
from app.backup.choice import OutsideError
from app.backup.restore import window
from app.backup.settings import Settings


def run(settings: Settings) -> int:
    """Print the window; exit code 1 where no repository tells it."""
    try:
        print(json.dumps(window(settings)))
    except (OutsideError, restic.RepositoryError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0
