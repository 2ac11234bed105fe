"""Which repositories there are, and what opens them."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from app.backup.process import Repository, without_password
from app.backup.settings import Kind, Second, Settings
from app.settings import ConfigurationError

KINDS: tuple[Kind, ...] = get_args(Kind)
SERVICE = "repository-password"
DRILL = "drill-password"
ENVIRONMENT = "second-repository-environment"
KEY = "second-repository-key"


def credential_file(name: str) -> Path:
    """restic reads passwords from files; this is where systemd laid that one."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")) / name
    if not path.is_file():
        raise ConfigurationError(f"credential {name} = not in {path.parent}; LoadCredential={name} in the unit")
    return path


def own(settings: Settings, kind: Kind, *, key: str = SERVICE) -> Repository:
    """One of the repositories that this host alone writes."""
    return Repository(str(settings.repository(kind)), credential_file(key))


def pushed(settings: Settings) -> dict[str, Repository]:
    """Those that other hosts push into, by USER/NAME; opened here with this host's own key, past the server."""
    password = credential_file(SERVICE)
    return {
        str(config.parent.relative_to(settings.pushed)): Repository(str(config.parent), password)
        for config in sorted(settings.pushed.glob("*/*/config"))
    }


def second(settings: Settings, kind: Kind) -> Repository | None:
    """The copy elsewhere of one of our own; None: the site has no second repository."""
    if not settings.second.repository:
        return None
    place = settings.second.repository
    if re.search(r"//[^/@\s:]*:[^/@\s]*@", place):
        raise ConfigurationError(
            f"second repository = {without_password(place)} with a password in its address, which many can read; an "
            "address alone, and RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD; "
            f"make keep-secret SITE=… NAME={ENVIRONMENT}"
        )
    authority = {"RESTIC_CACERT": settings.second.ca} if settings.second.ca else {}
    return Repository(
        f"{place.rstrip('/')}/{kind}",
        credential_file(SERVICE),
        {**_environment(), **authority},
        cache=settings.run / "cache",
        ssh=_ssh(settings.second) if place.startswith("sftp:") else "",
    )


def _ssh(elsewhere: Second) -> str:
    """How ssh is called: with the site's own key, for the one server that shows the key known; nobody is asked."""
    place = elsewhere.repository
    key = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")) / KEY
    if not key.is_file():
        raise ConfigurationError(
            f"second repository = {place}; the private key that its server lets in is needed; "
            f"make keep-secret SITE=… NAME={KEY}"
        )
    if not elsewhere.known_hosts:
        raise ConfigurationError(
            f"second repository = {place}; its server's host key is needed; backup.second_repository_host_key"
        )
    options = {
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": elsewhere.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        # So the key is known by, whatever the server's name and port.
        "HostKeyAlias": "second-repository",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        # What a server tells everybody who comes is no reason for anything.
        "LogLevel": "ERROR",
    }
    words = ["-F", "none", "-i", str(key), *(f"-o{name}={value}" for name, value in options.items())]
    return shlex.join(words)


def _environment() -> Mapping[str, str]:
    """Users and keys of the second repository's server, a KEY=VALUE on each line; many servers need none."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")) / ENVIRONMENT
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def size_of(folder: Path) -> int:
    """Bytes of all files below it; what goes meanwhile counts nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(where) / name).stat().st_size
            except OSError:
                continue
    return total
