"""Signed tokens: who somebody is, believed by every host without asking the primary until the session ends."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt

from app.store.sessions import Session

_ALGORITHM = "HS256"
# A token with an audience is none to whoever expects an access token, the program before this one included.
_REFRESH = "refresh"


@dataclass(frozen=True)
class Access:
    """A session, and until when the token that named it is good."""

    session: Session
    expires: datetime


@dataclass(frozen=True)
class Refresh:
    """A session, and the number of the token that named it, which is spent once."""

    session: Session
    number: UUID


def began(user_id: UUID, generation: int, seconds: int) -> Session:
    """A new session of the user's, which ends after so many seconds however it is used."""
    return Session(uuid4(), user_id, generation, _now() + timedelta(seconds=seconds))


def access(session: Session, key: str, domain: str, seconds: int) -> tuple[str, int]:
    """An access token and the seconds of its life, which does not outlive the session."""
    now = _now()
    expires = min(now + timedelta(seconds=seconds), session.ends)
    return jwt.encode(_claims(session, domain, expires), key, _ALGORITHM), int((expires - now).total_seconds())


def refresh(session: Session, key: str, domain: str) -> tuple[str, int]:
    """A refresh token with a number of its own and the seconds of its life, which is the session's."""
    claims = _claims(session, domain, session.ends) | {"aud": _REFRESH, "jti": str(uuid4())}
    return jwt.encode(claims, key, _ALGORITHM), int((session.ends - _now()).total_seconds())


def read_access(token: str, key: str, domain: str) -> Access | None:
    """What an access token says; None when it is expired, forged, of another site or no such token."""
    try:
        claims = jwt.decode(
            token, key, algorithms=[_ALGORITHM], issuer=domain, options={"require": ["sub", "iss", "exp"]}
        )
        return Access(_session(claims), datetime.fromtimestamp(claims["exp"], UTC))
    except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
        return None


def read_refresh(token: str, key: str, domain: str) -> Refresh | None:
    """What a refresh token says; None when it is expired, forged, of another site or no such token."""
    required = ["sub", "iss", "exp", "sid", "jti"]
    try:
        claims = jwt.decode(
            token, key, algorithms=[_ALGORITHM], issuer=domain, audience=_REFRESH, options={"require": required}
        )
        return Refresh(_session(claims), UUID(claims["jti"]))
    except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
        return None


def _claims(session: Session, domain: str, expires: datetime) -> dict[str, Any]:
    return {
        "sub": str(session.user_id),
        "iss": domain,
        "iat": _now(),
        "exp": expires,
        "sid": str(session.id),
        "gen": session.generation,
        "end": int(session.ends.timestamp()),
    }


def _session(claims: dict[str, Any]) -> Session:
    user_id = UUID(claims["sub"])
    if "sid" not in claims:
        # Of the program before sessions: good until it expires, or all of the user's sessions are ended.
        return Session(None, user_id, 0, datetime.fromtimestamp(claims["exp"], UTC))
    return Session(UUID(claims["sid"]), user_id, int(claims["gen"]), datetime.fromtimestamp(claims["end"], UTC))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
