"""Whether an app host can read what the site's provider says of itself; told, and no reason to stop a deploy."""

import json
import shlex

from pyinfra import host, logger
from pyinfra.api import operation
from pyinfra.facts.server import Command

from tasks.operations import Commands

SECONDS = 5
_told: set[str] = set()


def asking(issuer: str, authority: str) -> str:
    """A shell line that prints the description, or why there is none; ``authority`` may be empty."""
    trust = f"--cacert {shlex.quote(authority)} " if authority else ""
    # As the program asks: by no proxy.
    options = f"--silent --show-error --noproxy '*' --max-time {SECONDS} --max-filesize 1000000 {trust}"
    return f"curl {options}{shlex.quote(_place(issuer))} 2>&1 || true"


def problem(issuer: str, said: str) -> str:
    """What keeps people from signing in there, in one line; empty when nothing does."""
    try:
        named = json.loads(said).get("issuer")
    except (ValueError, AttributeError):
        reason = " ".join(said.split())[:200] or "nothing was said"
    else:
        if named == issuer:
            return ""
        reason = f"it names {str(named)[:100]}"
    return f"oidc.issuer = {issuer}; a description that this machine can read ({reason}); curl {_place(issuer)}"


@operation()
def described(issuer: str, authority: str = "") -> Commands:
    """
    Say once in a run when the provider cannot be read from here: it may be away, and passwords go on.

    + issuer: the provider's address
    + authority: the file of the CA that it is verified with; empty: Debian's
    """
    said = problem(issuer, host.get_fact(Command, command=asking(issuer, authority)) or "")
    if said and host.name not in _told:
        _told.add(host.name)
        host.log_styled(f"{host.name}: {said}", fg="yellow", log_func=logger.warning)
    host.noop("the provider describes itself" if not said else "the provider cannot be read")
    yield from ()


def _place(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"
