"""One try to sign in at the provider: it lies in the browser's cookie, so that any host goes on with it."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from starlette.responses import Response

NAME = "__Host-rag-oidc"
SECONDS = 600
_ALGORITHM = "HS256"
# A token with an audience is none to whoever expects an access token.
_AUDIENCE = "oidc"
# A cookie holds four kilobytes, and browsers drop a larger one without a word.
_LONGEST_NEXT = 2000


@dataclass(frozen=True)
class Attempt:
    """What is told to the provider is derived from a number and the site's key: the cookie alone tells none of it."""

    number: str
    next: str
    state: str
    nonce: str
    verifier: str


def begun(key: str, next_path: str) -> Attempt:
    """A new try, which leads on to ``next_path``."""
    return _of(key, secrets.token_urlsafe(32), next_path if len(next_path) <= _LONGEST_NEXT else "/")


def put(response: Response, attempt: Attempt, key: str, domain: str) -> None:
    """Bind the try to this browser, for ten minutes."""
    until = datetime.now(UTC) + timedelta(seconds=SECONDS)
    claims = {"iss": domain, "aud": _AUDIENCE, "exp": until, "jti": attempt.number, "next": attempt.next}
    # Lax: the provider's page sends the browser back here, and a stricter one would stay behind.
    response.set_cookie(
        NAME, jwt.encode(claims, key, _ALGORITHM), max_age=SECONDS, path="/", secure=True, httponly=True, samesite="lax"
    )


def take_away(response: Response) -> None:
    """A try is good for one answer."""
    response.delete_cookie(NAME, path="/", secure=True, httponly=True, samesite="lax")


def read(cookie: str, key: str, domain: str) -> Attempt | None:
    """The try that this browser began; None when it is too long ago, forged or another site's."""
    try:
        claims = jwt.decode(
            cookie,
            key,
            algorithms=[_ALGORITHM],
            issuer=domain,
            audience=_AUDIENCE,
            options={"require": ["iss", "aud", "exp", "jti"]},
        )
        return _of(key, str(claims["jti"]), str(claims["next"]))
    except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
        return None


def _of(key: str, number: str, next_path: str) -> Attempt:
    def derived(what: str) -> str:
        made = hmac.new(key.encode(), f"oidc {what} {number}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()

    return Attempt(number, next_path, derived("state"), derived("nonce"), derived("verifier"))
