"""Which repositories there are, and what opens them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from app.backup.process import Repository, without_password
from app.backup.settings import Kind, Settings
from app.settings import ConfigurationError

KINDS: tuple[Kind, ...] = get_args(Kind)
SERVICE = "repository-password"
DRILL = "drill-password"
ENVIRONMENT = "second-repository-environment"


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
            f"address alone, and RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD; make keep-secret NAME={ENVIRONMENT}"
        )
    location = f"{place.rstrip('/')}/{kind}"
    return Repository(location, credential_file(SERVICE), _environment(), cache=settings.run / "cache")


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
