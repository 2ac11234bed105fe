"""Verb `init`: repositories that lack are made, and who may open them has a key of his own in each."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from app.backup import restic
from app.backup.metrics import say
from app.backup.process import exists, failure
from app.backup.process import run as restic_run
from app.backup.repositories import DRILL, KINDS, SERVICE, credential_file, own, second
from app.backup.restic import Repository, RepositoryError
from app.backup.settings import Settings
from app.settings import ConfigurationError

STDIN = Path("/dev/stdin")
OFFLINE = "offline"


@dataclass(frozen=True)
class Key:
    """One of a repository's keys; restic keeps who it is for in the clear."""

    id: str
    user: str


def run(settings: Settings, *, offline: bool = False, elsewhere: bool = False, client: str = "") -> int:
    """
    Make what lacks, touch nothing that is there; 0: all is as wanted.

    + offline: the offline key comes on standard input, goes into every repository and is kept nowhere else
    + elsewhere: the same for the second repository, whose server may be away
    + client: the host whose repository password comes on standard input
    """
    password = sys.stdin.readline().strip() if offline or elsewhere or client else ""
    if (offline or elsewhere or client) and len(password) < 32:
        raise ConfigurationError(f"password = {len(password)} characters; a line of at least 32 on standard input")
    try:
        if client:
            repository = Repository(str(settings.pushed / client / "etcd"), credential_file(SERVICE))
            _made(repository)
            _held(repository, "client", password=password)
            return 0
        for kind in KINDS:
            repository = own(settings, kind)
            if elsewhere:
                there = second(settings, kind)
                if there and not exists(there):
                    restic.init(there, like=repository)
                    say(f"repository {there.shown} = made")
                if there:
                    _held(there, OFFLINE, password=password)
            elif offline:
                _held(repository, OFFLINE, password=password)
            else:
                _made(repository)
                _held(repository, "drill", file=credential_file(DRILL))
    except RepositoryError as error:
        say(str(error))
        return 1
    return 0


def keys(repository: Repository) -> list[Key]:
    """All of the repository."""
    for line in restic_run(repository, ["key", "list"]).stdout.splitlines():
        if line.startswith("["):
            return [Key(entry["id"], entry["userName"]) for entry in json.loads(line)]
    raise failure(repository, "failed", "restic listed no keys")


def add_key(repository: Repository, user: str, *, file: Path = STDIN, password: str | None = None) -> None:
    """A further key; the password from a file, or handed over without one."""
    done = restic_run(repository, ["key", "add", "--user", user, "--new-password-file", str(file)], stdin=password)
    if "saved new key" not in done.stdout:
        raise failure(repository, "failed", f"no key of {user} was added")


def remove_key(repository: Repository, key: Key) -> None:
    """From now on it opens nothing; whoever used it may have kept what it had opened."""
    restic_run(repository, ["key", "remove", key.id])
    if key in keys(repository):
        raise failure(repository, "refused", f"key {key.id[:8]} of {key.user} is still there")


def opens(repository: Repository, *, file: Path = STDIN, password: str | None = None) -> bool:
    """Whether that password is one of its keys."""
    try:
        restic_run(replace(repository, password_file=file), ["cat", "config"], stdin=password)
    except RepositoryError as error:
        if error.kind == "password":
            return False
        raise
    return True


def _made(repository: Repository) -> None:
    folder = repository.local
    if folder and not (folder / "config").is_file() and folder.is_dir() and any(folder.iterdir()):
        # A new one in the place of one that is damaged would be the end of what is left of it.
        raise failure(repository, "corrupt", "its config is gone while other files are there", f"ls {folder}")
    if not exists(repository):
        if folder:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        restic.init(repository)
        say(f"repository {repository.shown} = made")


def _held(repository: Repository, user: str, *, file: Path = STDIN, password: str | None = None) -> None:
    """That password opens it under that name, and none that the name had before."""
    if opens(repository, file=file, password=password):
        return
    former = [key for key in keys(repository) if key.user == user]
    add_key(repository, user, file=file, password=password)
    for key in former:
        remove_key(repository, key)
    say(f"repository {repository.shown} = has a {'new ' if former else ''}key of {user}")
