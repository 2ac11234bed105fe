"""Signed tokens: who somebody is, believed by every host for an hour without asking the primary."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

_ALGORITHM = "HS256"


def issue(user_id: UUID, key: str, domain: str, seconds: int) -> str:
    """A token for this user and this site."""
    now = datetime.now(UTC)
    claims = {"sub": str(user_id), "iss": domain, "iat": now, "exp": now + timedelta(seconds=seconds)}
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def read(token: str, key: str, domain: str) -> UUID | None:
    """The user the token names; None when it is expired, forged, of another site or no token."""
    try:
        claims = jwt.decode(
            token, key, algorithms=[_ALGORITHM], issuer=domain, options={"require": ["sub", "iss", "exp"]}
        )
        return UUID(claims["sub"])
    except (jwt.InvalidTokenError, ValueError):
        return None
