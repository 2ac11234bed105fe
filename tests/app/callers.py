"""Every kind of caller, and a thing of its own for each request, so that no request spoils the next."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from app.api import tokens
from app.store import grants, keys
from tests.app.conftest import SECRETS
from tests.app.ollama_standin import DIMENSION, EMBED
from tests.app.site import Site

CALLERS = (
    "nobody", "reader", "none", "read", "write", "manage", "admin", "key", "expired", "disabled", "deleted"
)  # fmt: skip

# What each was given for its own collection; the reader's role allows less than that.
GIVEN: dict[str, grants.Permission] = {"reader": "manage", "read": "read", "write": "write", "manage": "manage"}
ROLES = {"reader": "reader", "admin": "admin"}
# Whose a key is; a token that is good no more is of the user before that.
OWNERS = {"key": "manage", "expired": "manage"}


@dataclass(frozen=True)
class World:
    site: Site
    users: dict[str, UUID]
    sent: dict[str, str]

    def status(self, caller: str, method: str, path: str, sent: dict[str, Any], *, own: bool) -> int:
        """What the caller gets who does this to a thing of its own, or of somebody else's."""
        with self.site.database.begin() as connection:
            filled = self._things(connection, caller, path, own=own)
            token = self.sent[caller] if caller in self.sent else self._token(connection, caller)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self.site.http.request(method, path.format(**filled), headers=headers, **_filled(sent, filled))
        return answer.status_code

    def _token(self, connection: Connection, caller: str) -> str:
        user_id = self.users[caller]
        statement = text("select token_generation from users where id = :id")
        generation = connection.execute(statement, {"id": user_id}).scalar_one()
        return tokens.access(tokens.began(user_id, generation, 3600), SECRETS["token-key"], "rag.test", 3600)[0]

    def _things(self, connection: Connection, caller: str, path: str, *, own: bool) -> dict[str, Any]:
        me = self.users.get(OWNERS.get(caller, caller), self.users["none"])
        other = add_user(connection, "editor")
        # Under /users and in /keys of a user the key is that user's.
        theirs = me if own and not path.startswith("/api/v1/users") else other
        collection_id, collection = add_collection(connection, self.users if own else {})
        group = add_group(connection)
        names = {"/api/v1/users": name_of(connection, other), "/api/v1/groups": group}
        session = tokens.began(self.users["none"], 1_000_000, 3600)
        return {
            "name": next((name for start, name in names.items() if path.startswith(start)), collection),
            "collection": collection,
            "user": name_of(connection, other),
            "group": group,
            "manager": name_of(connection, self.users["manager"]),
            "fresh": fresh(),
            "refresh": tokens.refresh(session, SECRETS["token-key"], "rag.test")[0],
            "key_id": add_key(connection, theirs)[0],
            "document_id": add_document(connection, collection_id),
            "ordinal": 0,
            **conversation_of(connection, theirs, collection_id),
        }


def world_of(site: Site) -> Iterator[World]:
    """The callers, each signed in or not as its name says."""
    with site.database.begin() as connection:
        users = {
            caller: add_user(connection, ROLES.get(caller, "editor"))
            for caller in CALLERS
            if caller not in {"nobody", *OWNERS}
        }
        # One who signs in with a password, whom no other request touches.
        users["manager"] = add_user(connection, "editor", like="admin")
        for user in users.values():
            set_password_like(connection, user, "admin")
        sent = {caller: add_key(connection, users[owner])[1] for caller, owner in OWNERS.items()}
        expired = keys.read(sent["expired"], SECRETS["token-key"])
        assert expired
        connection.execute(text("update api_keys set expires_at = now() where id = :id"), {"id": expired.id})
        world = World(site, users, {"nobody": "", **sent})
        for caller in ("disabled", "deleted"):
            world.sent[caller] = world._token(connection, caller)
        connection.execute(text("update users set disabled = true where id = :id"), {"id": users["disabled"]})
        connection.execute(text("delete from users where id = :id"), {"id": users.pop("deleted")})
    yield world
    # Each request has things of its own, which makes over a thousand: too many for the lists that other tests look at.
    with site.database.begin() as connection:
        for table in ("collections", "groups", "users"):
            connection.execute(text(f"delete from {table} where name ~ '^n[0-9a-f]{{12}}$'"))


def fresh() -> str:
    return f"n{uuid4().hex[:12]}"


def add_user(connection: Connection, role: str, like: str | None = None) -> UUID:
    statement = text("insert into users (name, password_hash, role) values (:name, '!', :role) returning id")
    user_id: UUID = connection.execute(statement, {"name": fresh(), "role": role}).scalar_one()
    if like:
        set_password_like(connection, user_id, like)
    return user_id


def set_password_like(connection: Connection, user_id: UUID, like: str) -> None:
    """Give the user the password of another one: to hash one for each would take long."""
    connection.execute(
        text("update users set password_hash = (select password_hash from users where name = :like) where id = :id"),
        {"like": like, "id": user_id},
    )


def name_of(connection: Connection, user_id: UUID) -> str:
    return str(connection.execute(text("select name from users where id = :id"), {"id": user_id}).scalar_one())


def add_group(connection: Connection) -> str:
    name = fresh()
    connection.execute(text("insert into groups (id, name) values (gen_random_uuid(), :name)"), {"name": name})
    return name


def add_collection(connection: Connection, users: dict[str, UUID]) -> tuple[UUID, str]:
    """A collection with a grant to each of the users whose name says so."""
    name = fresh()
    statement = text("insert into collections (name) values (:name) returning id")
    collection_id: UUID = connection.execute(statement, {"name": name}).scalar_one()
    for caller, permission in GIVEN.items():
        if caller in users:
            grants.give_user(connection, collection_id, users[caller], permission)
    return collection_id, name


def add_document(connection: Connection, collection_id: UUID) -> UUID:
    """One that is indexed, with a passage."""
    document_id: UUID = connection.execute(
        text(
            "insert into documents (collection_id, title, file_name, media_type, sha256, size, source, state)"
            " values (:collection, 'gate', 'gate.txt', 'text/plain', :sha256, 1, 'x', 'indexed') returning id"
        ),
        {"collection": collection_id, "sha256": uuid4().hex},
    ).scalar_one()
    connection.execute(
        text(
            "insert into passages (document_id, ordinal, collection_id, text, section, embedding, model, dimension)"
            " values (:document, 0, :collection, 'The gate opens at nine.', '', :embedding, :model, :dimension)"
        ),
        {
            "document": document_id,
            "collection": collection_id,
            "embedding": bytes(4 * DIMENSION),
            "model": EMBED,
            "dimension": DIMENSION,
        },
    )
    return document_id


def add_key(connection: Connection, user_id: UUID) -> tuple[UUID, str]:
    key_id = uuid4()
    secret = keys.new_secret(key_id, SECRETS["token-key"])
    connection.execute(
        text(
            "insert into api_keys (id, user_id, name, scopes, secret_sha256, expires_at)"
            " values (:id, :user, 'nightly', array['read'], :secret, now() + interval '1 day')"
        ),
        {"id": key_id, "user": user_id, "secret": keys.hashed(secret)},
    )
    return key_id, keys.written(key_id, secret)


def conversation_of(connection: Connection, user_id: UUID, collection_id: UUID) -> dict[str, UUID]:
    """The user's question, in a conversation of theirs."""
    conversation_id, question_id = uuid4(), uuid4()
    values = {"id": question_id, "user": user_id, "collection": collection_id, "conversation": conversation_id}
    connection.execute(
        text(
            "insert into questions (id, user_id, collection_id, question, answer, supported, citations, model, seconds,"
            " asked_at) values (:id, :user, :collection, 'What?', 'That.', true, '[]', 'chat', 1, now())"
        ),
        values,
    )
    if connection.execute(text("select to_regclass('conversations')")).scalar_one():
        connection.execute(
            text(
                "insert into conversations (id, user_id, collection_id, title, created_at, changed_at)"
                " values (:conversation, :user, :collection, 'What?', now(), now())"
            ),
            values,
        )
        connection.execute(text("insert into turns (question_id, conversation_id) values (:id, :conversation)"), values)
    return {"conversation_id": conversation_id, "question_id": question_id}


def _filled(sent: Any, things: dict[str, Any]) -> Any:
    """What is sent, with the things' names in it."""
    if isinstance(sent, dict):
        return {key: _filled(value, things) for key, value in sent.items()}
    if isinstance(sent, list):
        return [_filled(value, things) for value in sent]
    if isinstance(sent, str) and sent.startswith("{"):
        with contextlib.suppress(KeyError):
            return sent.format(**things)
    return sent
