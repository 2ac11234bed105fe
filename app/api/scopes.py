"""What an API key must be allowed for which route; a sign-in may do all that its user may."""

import re
from typing import Literal

from app.api.problems import Problem
from app.store.keys import Scope

# ``any``: every key. ``session``: none, since whoever finds a key shall not make more of it.
Needed = Scope | Literal["any", "session"]

# By method and the route's path as it is declared; the first that fits counts.
_NEEDED: tuple[tuple[str, str, Needed], ...] = (
    (r"GET", r"/api/v1/me(/storage)?", "any"),
    (r".*", r"/api/v1/(me/.*|keys.*|sign-out)", "session"),
    # Who signs in as whom: a key would make itself a sign-in that outlives it.
    (r".*", r"/api/v1/users/\{name\}/identity", "session"),
    (r".*", r"/api/v1/(users|groups|audit|reembedding)(/.*)?", "admin"),
    # Who may open a collection to others may give it away.
    (r".*", r"/api/v1/collections/\{name\}/grants.*", "admin"),
    (r"POST", r"/api/v1/questions|/v1/chat/completions", "read"),
    (r"PUT", r"/api/v1/questions/[^/]+/feedback", "read"),
    (r"GET|HEAD", r".*", "read"),
    (r".*", r".*", "write"),
)


def needed(method: str, route: str) -> Needed:
    """What a key needs for this."""
    return next(
        scope for methods, routes, scope in _NEEDED if re.fullmatch(methods, method) and re.fullmatch(routes, route)
    )


def require(scopes: tuple[Scope, ...], method: str, route: str) -> None:
    """Raise 403 unless a key with these scopes may do this."""
    scope = needed(method, route)
    if scope == "session":
        raise Problem(403, "authorization = an API key; a token of your own", "sign in with POST /api/v1/token")
    if scope != "any" and scope not in scopes:
        raise Problem(403, f"scopes = {', '.join(scopes)}; {scope}", "make another key with POST /api/v1/keys")
