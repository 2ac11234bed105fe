"""Who may do what: oneself, keys, users, groups, grants and the audit."""

from collections.abc import Iterator
from typing import Any, Literal

from app.client.results import AuditEntry, Grant, Group, Key, Me, Storage, Tokens, User
from app.client.transport import Transport, part

Kind = Literal["user", "group"]


class People:
    """The part of a client that administers; most of it is for administrators."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def me(self) -> Me:
        """Who one is, and what one's key may do."""
        return self._transport.one(Me, "GET", "/api/v1/me")

    def storage(self) -> Storage:
        """What one has uploaded, and how much that may be."""
        return self._transport.one(Storage, "GET", "/api/v1/me/storage")

    def refresh(self, refresh_token: str) -> Tokens:
        """New tokens; the old refresh token is spent."""
        sent = {"refresh_token": refresh_token}
        return self._transport.one(Tokens, "POST", "/api/v1/token/refresh", json=sent)

    def sign_out(self, *, everywhere: bool = False) -> None:
        """End the session of the token in use, or all of one's own."""
        if everywhere:
            self._transport.call("DELETE", "/api/v1/me/sessions")
        else:
            self._transport.call("POST", "/api/v1/sign-out")

    def change_password(self, current: str, new: str) -> None:
        """Give oneself another password."""
        self._transport.call("PUT", "/api/v1/me/password", json={"current": current, "new": new})

    # --- API keys

    def keys(self, user: str = "") -> Iterator[Key]:
        """One's own, or for administrators somebody else's."""
        return self._transport.pages(f"/api/v1/users/{part(user)}/keys" if user else "/api/v1/keys", Key)

    def add_key(self, name: str, scopes: list[str], expires_in_days: int | None = None) -> Key:
        """A new key, whose secret is shown this once."""
        asked = {"name": name, "scopes": scopes} | ({"expires_in_days": expires_in_days} if expires_in_days else {})
        return self._transport.one(Key, "POST", "/api/v1/keys", json=asked)

    def delete_key(self, key: str, user: str = "") -> None:
        """End a key at once."""
        where = f"/api/v1/users/{part(user)}/keys" if user else "/api/v1/keys"
        self._transport.call("DELETE", f"{where}/{part(key)}")

    # --- users and groups

    def users(self) -> Iterator[User]:
        """Everybody."""
        return self._transport.pages("/api/v1/users", User)

    def add_user(self, name: str, password: str, role: str) -> User:
        """A new person."""
        sent = {"name": name, "password": password, "role": role}
        return self._transport.one(User, "POST", "/api/v1/users", json=sent)

    def change_user(self, name: str, **changes: Any) -> User:
        """Another password or role, or ``disabled``."""
        return self._transport.one(User, "PATCH", f"/api/v1/users/{part(name)}", json=changes)

    def delete_user(self, name: str) -> None:
        """Take a person away for good."""
        self._transport.call("DELETE", f"/api/v1/users/{part(name)}")

    def link_user(self, name: str, subject: str, current: str = "") -> User:
        """Let the person whom the site's provider calls so sign in there as this user; for oneself with the password.

        Like ``unlink_user`` after a sign-in only, not with an API key.
        """
        sent = {"subject": subject, "current": current}
        return self._transport.one(User, "PUT", f"/api/v1/users/{part(name)}/identity", json=sent)

    def unlink_user(self, name: str) -> None:
        """Let nobody of the provider's sign in as this user."""
        self._transport.call("DELETE", f"/api/v1/users/{part(name)}/identity")

    def groups(self) -> Iterator[Group]:
        """Every group."""
        return self._transport.pages("/api/v1/groups", Group)

    def group(self, name: str) -> Group:
        """A group with its members."""
        return self._transport.one(Group, "GET", f"/api/v1/groups/{part(name)}")

    def add_group(self, name: str) -> Group:
        """A new group without members."""
        return self._transport.one(Group, "POST", "/api/v1/groups", json={"name": name})

    def delete_group(self, name: str) -> None:
        """Take a group away, and with it what was granted to it."""
        self._transport.call("DELETE", f"/api/v1/groups/{part(name)}")

    def add_member(self, group: str, user: str) -> None:
        """Put a person into a group."""
        self._transport.call("PUT", f"/api/v1/groups/{part(group)}/members/{part(user)}")

    def remove_member(self, group: str, user: str) -> None:
        """Take a person out of a group."""
        self._transport.call("DELETE", f"/api/v1/groups/{part(group)}/members/{part(user)}")

    # --- grants and audit

    def grants(self, collection: str) -> Iterator[Grant]:
        """Who may do what in a collection."""
        return self._transport.pages(f"/api/v1/collections/{part(collection)}/grants", Grant)

    def grant(self, collection: str, kind: Kind, name: str, permission: str) -> None:
        """Let a person or a group read, write or manage."""
        self._transport.call("PUT", _grant(collection, kind, name), json={"permission": permission})

    def revoke(self, collection: str, kind: Kind, name: str) -> None:
        """Take that away."""
        self._transport.call("DELETE", _grant(collection, kind, name))

    def audit(self, actor: str = "", action: str = "") -> Iterator[AuditEntry]:
        """Who did what, the latest first; of one person or of one kind where named."""
        filters = {name: value for name, value in (("actor", actor), ("action", action)) if value}
        return self._transport.pages("/api/v1/audit", AuditEntry, **filters)


def _grant(collection: str, kind: Kind, name: str) -> str:
    return f"/api/v1/collections/{part(collection)}/grants/{kind}s/{part(name)}"
