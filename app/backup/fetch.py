"""Verb ``fetch``: what repositories at another place hold comes into this host's own, and stays what it was there."""

from collections.abc import Sequence
from typing import Final

from app.backup import restic
from app.backup.choice import said
from app.backup.metrics import say
from app.backup.process import Repository, exists, refuse_silence
from app.backup.repositories import KINDS, own, second
from app.backup.restic import RepositoryError, Snapshot
from app.backup.settings import Settings
from app.settings import ConfigurationError

SHOWN: Final = 5


def run(settings: Settings, *, place: str = "") -> int:
    """
    Exit code 0 when this host's repositories hold what of the others can be read, and of each kind something.

    What they hold besides stays.

    + place: where the others lie; empty: the second repository of the settings
    """
    elsewhere = place or settings.second.repository
    if not elsewhere:
        raise ConfigurationError("FROM = (nothing); the place of the repositories is needed; FROM=s3:https://…/rag")
    elsewhere_too = settings.second.model_copy(update={"repository": elsewhere})
    there = settings.model_copy(update={"second": elsewhere_too})
    # What the site's state tells of recoveries comes first: until then maintenance does not know what must stay.
    kinds = sorted(KINDS, key=lambda kind: kind != "site")
    sources = {kind: source for kind in kinds if (source := second(there, kind))}
    try:
        refuse_silence(next(iter(sources.values())))
    except RepositoryError as error:
        say(str(error))
        return 1
    failed = 0
    for kind, source in sources.items():
        target = own(settings, kind)
        try:
            if not exists(source):
                say(f"{kind}: none there")
                continue
            known = restic.snapshots(source)
            if not exists(target):
                restic.init(target, like=source)
            copied, lost = _brought(source, target, known)
            say(f"{kind}: {copied} of {len(known)} snapshots came, {len(known) - copied - len(lost)} were here")
            if lost:
                names = ", ".join(f"{one.id[:8]} of {said(one.at)}" for one in lost[:SHOWN])
                say(f"{kind}: {len(lost)} did not come, damaged there: {names}{', …' if len(lost) > SHOWN else ''}")
            if known and known[-1] in lost:
                # What is older may bring back the same moment or one shortly before: whoever recovers goes on.
                say(f"{kind} = without its newest; a place that has it whole; make fetch-repositories SITE=… FROM=…")
            failed += bool(known) and len(lost) == len(known)
        except RepositoryError as error:
            failed += 1
            say(str(error))
    return 1 if failed else 0


def _brought(source: Repository, target: Repository, known: Sequence[Snapshot]) -> tuple[int, list[Snapshot]]:
    """How many came, and which could not, newest first: a damaged pack keeps back what needs it and nothing else."""
    had = {one.original for one in restic.snapshots(target)}
    try:
        return restic.copy(source, target, known), []
    except RepositoryError as error:
        if error.kind != "corrupt":
            raise
    lost = []
    for one in reversed(known):
        try:
            restic.copy(source, target, [one])
        except RepositoryError as error:
            if error.kind != "corrupt":
                raise
            lost.append(one)
    return len({one.original for one in restic.snapshots(target)} - had), lost
