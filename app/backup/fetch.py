"""Verb ``fetch``: what repositories at another place hold comes into this host's own, and stays what it was there."""

from app.backup import restic
from app.backup.metrics import say
from app.backup.repositories import KINDS, own, second
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.settings import Second, Settings
from app.settings import ConfigurationError


def run(settings: Settings, *, place: str = "") -> int:
    """
    Exit code 0 when this host's repositories hold every snapshot of the others; what they hold besides stays.

    + place: where the others lie; empty: the second repository of the settings
    """
    elsewhere = place or settings.second.repository
    if not elsewhere:
        raise ConfigurationError("FROM = (nothing); the place of the repositories is needed; FROM=s3:https://…/rag")
    there = settings.model_copy(update={"second": Second(repository=elsewhere)})
    failed = 0
    for kind in KINDS:
        source = second(there, kind)
        assert source is not None  # noqa: S101 - it has a place, for the type checker
        try:
            known = _known(source)
            if known is None:
                say(f"{kind}: none there")
                continue
            target = own(settings, kind)
            if _known(target) is None:
                restic.init(target, like=source)
            copied = restic.copy(source, target, known)
            say(f"{kind}: {copied} of {len(known)} snapshots came, the others were here")
        except RepositoryError as error:
            failed += 1
            say(str(error))
    return 1 if failed else 0


def _known(repository: Repository) -> list[Snapshot] | None:
    """Its snapshots; None: there is no such repository."""
    try:
        return restic.snapshots(repository)
    except RepositoryError as error:
        if error.kind == "absent":
            return None
        raise
