"""What recoveries wrote down on this host, when the site's history became another one, and what outlives the host."""

import json
import sys
from datetime import UTC, datetime

from app.backup import restic
from app.backup.choice import Recoveries, believed
from app.backup.process import Repository, exists
from app.backup.process import run as told_by
from app.backup.repositories import own
from app.backup.settings import Settings

NAME = "recovery.json"
UNKNOWN = (
    "recoveries = unknown to this host, and the site's repository tells of some; nothing is forgotten until it knows"
    " them; make fetch-repositories"
)


def run(settings: Settings) -> int:
    """Verb ``recoveries``: print what the site's repository holds of it, as one JSON value; empty: nothing."""
    site = own(settings, "site")
    try:
        newest = _newest(site)
        print(json.dumps(json.loads(told_by(site, ["dump", newest, f"/{NAME}"]).stdout) if newest else {}))
    except restic.RepositoryError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def unknown_here(settings: Settings, site: Repository) -> bool:
    """Whether the site's state in that repository tells of recoveries while this host, built anew, knows of none.

    Until it has heard of them it cannot tell which snapshots are the last before one.
    """
    return not (settings.folder / NAME).is_file() and exists(site) and bool(_newest(site))


def _newest(site: Repository) -> str:
    """The newest snapshot that holds what recoveries wrote down; empty: none does."""
    known = [one.id for one in believed(restic.snapshots(site, tag="site"), datetime.now(UTC))]
    having = {one["snapshot"] for one in json.loads(told_by(site, ["find", f"/{NAME}"]).stdout or "[]")}
    return next((one for one in reversed(known) if one in having), "")


def put_with_site(settings: Settings) -> None:
    """Among the site's state, with which it goes into the repository: a host that is built anew gets it back."""
    written, known = settings.folder / NAME, settings.site_folder / NAME
    if not written.is_file():
        known.unlink(missing_ok=True)
    elif not known.is_file() or known.read_bytes() != written.read_bytes():
        draft = settings.site_folder / f"{NAME}.new"
        draft.write_bytes(written.read_bytes())
        draft.replace(known)


def recoveries_of(settings: Settings) -> Recoveries:
    """All of them; what lies beside the spool is written by whoever recovers."""
    try:
        told = json.loads((settings.folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Recoveries()
    breaks = [(datetime.fromisoformat(before), datetime.fromisoformat(after)) for before, after in told["breaks"]]
    return Recoveries(tuple(breaks), datetime.fromisoformat(told["at"]))
