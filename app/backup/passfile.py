"""The password for PostgreSQL's own programs, which neither an argument list nor an environment shows."""

import contextlib
import tempfile
from collections.abc import Iterator

from app.settings import credential


@contextlib.contextmanager
def passfile() -> Iterator[dict[str, str]]:
    """What libpq's programs need in their environment; the file is for this user alone, and goes at the end."""
    password = credential("backup-password").replace("\\", "\\\\").replace(":", "\\:")
    # Units have a /tmp of their own, which goes with them when they are killed.
    with tempfile.NamedTemporaryFile("w", prefix="pgpass-") as file:
        file.write(f"*:*:*:*:{password}\n")
        file.flush()
        # Messages are read by us.
        yield {"PGPASSFILE": file.name, "LC_ALL": "C"}
