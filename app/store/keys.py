"""API keys: for programs, with an end and no more rights than they need; of a secret only its hash is kept."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.store import users
from app.store.database import shown_by_replicas
from app.store.users import User

Scope = Literal["read", "write", "admin"]

PREFIX = "rag_"
SECRET_BYTES = 32
# Letters at the end of a secret that only this site can have written: 48 bits, which leaves it 210 of its own.
MARK_LETTERS = 8
# As ``written`` makes them; what is of another form costs no question to a database.
_FORM = re.compile(PREFIX + r"([0-9a-f]{32})_([A-Za-z0-9_-]{43})")

_SELECT = "select id, name, scopes, expires_at, created_at, last_used_at from api_keys where user_id = :user "


@dataclass(frozen=True)
class Key:
    id: UUID
    name: str
    scopes: tuple[Scope, ...]
    expires_at: datetime
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Sent:
    """A key as it comes with a request, its secret already hashed."""

    id: UUID
    secret_sha256: bytes
    # It was made here, as no stranger's is; whether it still counts the database says. Older ones have no mark.
    marked: bool = False


def new_secret(key_id: UUID, token_key: str) -> str:
    """A secret that nobody guesses, with a mark by which it is told from a stranger's without a look at a database."""
    own = secrets.token_urlsafe(SECRET_BYTES)[:-MARK_LETTERS]
    return own + _mark(key_id, own, token_key)


def written(key_id: UUID, secret: str) -> str:
    """The key as it is sent."""
    return f"{PREFIX}{key_id.hex}_{secret}"


def read(sent: str, token_key: str) -> Sent | None:
    """The key that was sent; None when it does not look like one."""
    match = _FORM.fullmatch(sent)
    if match is None:
        return None
    key_id, secret = UUID(hex=match.group(1)), match.group(2)
    mark = _mark(key_id, secret[:-MARK_LETTERS], token_key)
    return Sent(key_id, hashed(secret), hmac.compare_digest(mark, secret[-MARK_LETTERS:]))


def _mark(key_id: UUID, own: str, token_key: str) -> str:
    made = hmac.digest(token_key.encode(), f"api key\n{key_id.hex}\n{own}".encode(), "sha256")
    return base64.urlsafe_b64encode(made)[:MARK_LETTERS].decode()


def hashed(secret: str) -> bytes:
    """What is kept of a secret; as nobody can try out so many, a quick hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def create(
    connection: Connection, user: User, sent: Sent, name: str, scopes: list[Scope], lives: timedelta
) -> Key | None:
    """The user's new key, made now or by an earlier try of the same; None when the id is another's."""
    connection.execute(
        text(
            "insert into api_keys (id, user_id, name, scopes, secret_sha256, expires_at)"
            " values (:id, :user, :name, :scopes, :secret, now() + :lives) on conflict do nothing"
        ),
        {
            "id": sent.id,
            "user": user.id,
            "name": name,
            "scopes": list(scopes),
            "secret": sent.secret_sha256,
            "lives": lives,
        },
    )
    statement = text(_SELECT + "and id = :id and secret_sha256 = :secret")
    parameters = {"user": user.id, "id": sent.id, "secret": sent.secret_sha256}
    row = connection.execute(statement, parameters).one_or_none()
    return _key(row) if row else None


def find(connection: Connection, sent: Sent) -> tuple[User, Key] | None:
    """Whose key was sent; None when it was revoked or has expired, or its user is disabled."""
    row = connection.execute(
        text(
            "select k.id, k.name, k.scopes, k.expires_at, k.created_at, k.last_used_at,"
            " u.id as user_id, u.name as user_name, u.role from api_keys k join users u on u.id = k.user_id"
            " where k.id = :id and k.secret_sha256 = :secret and k.expires_at > now() and not u.disabled"
        ),
        {"id": sent.id, "secret": sent.secret_sha256},
    ).one_or_none()
    return (User(row.user_id, row.user_name, users.role_of(row.role)), _key(row)) if row else None


def listed(connection: Connection, user_id: UUID, limit: int, after: tuple[datetime, UUID] | None) -> list[Key]:
    """The user's keys, expired ones too, oldest first, behind ``after``."""
    at, key_id = after or (None, None)
    statement = text(
        _SELECT + "and (cast(:at as timestamptz) is null"
        " or (created_at, id) > (cast(:at as timestamptz), cast(:id as uuid))) order by created_at, id limit :limit"
    )
    parameters = {"user": user_id, "at": at, "id": key_id, "limit": limit}
    return [_key(row) for row in connection.execute(statement, parameters)]


def revoke(connection: Connection, user_id: UUID, key_id: UUID) -> bool:
    """End the user's key at once; False when there is none of that number."""
    shown_by_replicas(connection)
    statement = text("delete from api_keys where id = :id and user_id = :user")
    return connection.execute(statement, {"id": key_id, "user": user_id}).rowcount == 1


def used(connection: Connection, key_id: UUID) -> None:
    """Write down that the key is in use, by the hour."""
    statement = text(
        "update api_keys set last_used_at = now()"
        " where id = :id and (last_used_at is null or last_used_at < now() - interval '1 hour')"
    )
    connection.execute(statement, {"id": key_id})


def _key(row: Row[Any]) -> Key:
    return Key(row.id, row.name, tuple(row.scopes), row.expires_at, row.created_at, row.last_used_at)
