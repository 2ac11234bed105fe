"""Verb ``fetch``: what repositories at another place hold comes into this host's own, and stays what it was there."""

from app.backup import restic
from app.backup.metrics import say
from app.backup.process import exists, refuse_silence
from app.backup.repositories import KINDS, own, second
from app.backup.restic import RepositoryError
from app.backup.settings import Settings
from app.settings import ConfigurationError


def run(settings: Settings, *, place: str = "") -> int:
    """
    Exit code 0 when this host's repositories hold every snapshot of the others; what they hold besides stays.

    + place: where the others lie; empty: the second repository of the settings
    """
    elsewhere = place or settings.second.repository
    if not elsewhere:
        raise ConfigurationError("FROM = (nothing); the place of the repositories is needed; FROM=s3:https://…/rag")
    elsewhere_too = settings.second.model_copy(update={"repository": elsewhere})
    there = settings.model_copy(update={"second": elsewhere_too})
    sources = {kind: source for kind in KINDS if (source := second(there, kind))}
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
            copied = restic.copy(source, target, known)
            say(f"{kind}: {copied} of {len(known)} snapshots came, the others were here")
        except RepositoryError as error:
            failed += 1
            say(str(error))
    return 1 if failed else 0
