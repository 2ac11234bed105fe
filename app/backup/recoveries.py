"""What recoveries wrote down on this host, when the site's history became another one, and what outlives the host."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.backup import restic
from app.backup.choice import Recoveries, believed
from app.backup.process import Repository, exists, failure
from app.backup.process import run as told_by
from app.backup.repositories import own
from app.backup.settings import Settings

NAME = "recovery.json"
UNKNOWN = (
    "recoveries = not all known to this host, the site's repository tells of more; nothing is forgotten until it knows"
    " them; make fetch-repositories SITE=…"
)

Record = Mapping[str, Any]
"""As tasks/last_backup.py writes it: ``at``, ``base``, ``log``, ``began``, ``done``, ``breaks``."""


def run(settings: Settings, *, anew: bool = False) -> int:
    """
    Verb ``recoveries``: print what this host and the site's repository know of them, as one JSON value; {}: none.

    + anew: what this host knew was of others, the repository alone counts
    """
    try:
        told = _told(own(settings, "site"))
        if (here := settings.folder / NAME).is_file() and not anew:
            told.append(json.loads(here.read_text(encoding="utf-8")))
        print(json.dumps(together(told, lambda: _bases(settings))))
    except restic.RepositoryError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def together(told: Sequence[Record], bases: Callable[[], Sequence[datetime]]) -> dict[str, Any]:
    """
    The newest of what was written down, with the breaks that any of it tells of.

    A host built anew that recovers before it has the repositories of the one before it writes down its own recovery
    alone, and the other one's are of another line. One that the other began and never wrote the end of ends with the
    base after it, as everywhere.

    + told: those of one recovery, the later the further it had come
    + bases: when each base backup was taken, oldest first
    """
    each = {record["at"]: record for record in told}
    if not each:
        return {}
    *before, newest = sorted(each.values(), key=_began)
    breaks: dict[str, str] = dict(pair for record in each.values() for pair in record["breaks"])
    for record in before:
        if record["at"] not in breaks and (after := [at for at in bases() if at > _began(record)]):
            breaks[record["at"]] = after[0].isoformat()
    return {**newest, "breaks": [list(pair) for pair in sorted(breaks.items())]}


def _began(record: Record) -> datetime:
    # An older release wrote down only when the last backup was.
    return datetime.fromisoformat(record.get("began", record["at"]))


def unknown_here(settings: Settings, site: Repository) -> bool:
    """Whether the site's state in that repository tells of recoveries that this host, built anew, does not know.

    Until it has heard of them it cannot tell which snapshots are the last before one.
    """
    known = recoveries_of(settings).ends
    return exists(site) and any(datetime.fromisoformat(record["at"]) not in known for record in _told(site))


def _told(site: Repository) -> list[Record]:
    """What the site's state held of it over time, oldest first; an older step that is damaged is left out."""
    told, steps = [], _steps(site)
    for one in steps:
        try:
            told.append(json.loads(told_by(site, ["dump", one, f"/{NAME}"]).stdout))
        except restic.RepositoryError as error:
            # The newest tells of the breaks before it.
            if error.kind != "corrupt" or one == steps[-1]:
                raise
            print(error, file=sys.stderr)
    return told


def _steps(site: Repository) -> list[str]:
    """One snapshot for each content that the file had; it is written anew for each step of a recovery."""
    said = told_by(site, ["find", f"/{NAME}"]).stdout
    try:
        written = {one["snapshot"]: one["matches"][0]["mtime"] for one in json.loads(said or "[]")}
    except (ValueError, LookupError, TypeError):
        # Of a tree that it cannot read restic 0.18 tells among the rest, and calls it a success.
        reason = next((line for line in said.splitlines() if line.startswith("Unable")), "find listed nothing")
        raise failure(site, "corrupt", reason) from None
    known = believed(restic.snapshots(site, tag="site"), datetime.now(UTC))
    return list({written[one.id]: one.id for one in known if one.id in written}.values())


def _bases(settings: Settings) -> list[datetime]:
    return [one.at for one in believed(restic.snapshots(own(settings, "base"), tag="base"), datetime.now(UTC))]


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
