"""Who somebody is, and what they may, by what the provider says of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.oidc.settings import Oidc
from app.store.users import Role

LONGEST_NAME = 63


@dataclass(frozen=True)
class Person:
    """``subject`` alone says who it is: names and addresses are given to others."""

    subject: str
    name: str
    """What a new account would be called; empty when nothing is left of the claim."""
    role: Role | None
    """None: neither a group nor a domain lets this person in."""
    untold: bool = False
    """The provider said that there are more groups than it tells, and told none."""
    id_token: str = field(default="", repr=False)
    """The provider's word itself, which it wants to see again at a sign-out."""


def person(settings: Oidc, claims: Mapping[str, Any]) -> Person:
    """The person of whom these claims are."""
    # Entra's way to say that a person has more groups than a token holds.
    elsewhere = claims.get("_claim_names")
    untold = isinstance(elsewhere, dict) and settings.groups_claim in elsewhere
    # As it says of the claim groups where a token is sent through the browser; of roles it means nothing.
    untold = untold or (settings.groups_claim == "groups" and "hasgroups" in claims)
    return Person(
        str(claims["sub"]),
        name_of(claims.get(settings.name_claim)),
        _role(settings, claims),
        untold and _claim(claims, settings.groups_claim) is None,
    )


def wanted(settings: Oidc, claims: Mapping[str, Any]) -> bool:
    """Whether the claims lack something that the provider may tell besides."""
    needed = [settings.name_claim] if settings.create else []
    needed += ["email"] if settings.email_domains else []
    return any(name not in claims for name in needed) or (
        settings.maps_roles and _claim(claims, settings.groups_claim) is None
    )


def name_of(claimed: object) -> str:
    """A name as accounts have them, of what stands before an address's @."""
    local = str(claimed).partition("@")[0] if isinstance(claimed, str) else ""
    return re.sub(r"[^a-z0-9._-]+", "-", local.lower()).strip("._-")[:LONGEST_NAME]


def _role(settings: Oidc, claims: Mapping[str, Any]) -> Role | None:
    told = _claim(claims, settings.groups_claim)
    listed = told if isinstance(told, list) else [told]
    groups = {one for one in listed if isinstance(one, str)}
    mapped: tuple[tuple[Role, tuple[str, ...]], ...] = (
        ("admin", settings.admin_groups),
        ("editor", settings.editor_groups),
        ("reader", settings.reader_groups),
    )
    for role, names in mapped:
        if groups & set(names):
            return role
    return settings.new_role if _of_a_listed_domain(settings, claims) else None


def _of_a_listed_domain(settings: Oidc, claims: Mapping[str, Any]) -> bool:
    # An address that nobody verified is one that anybody may have typed.
    if claims.get("email_verified") is not True:
        return False
    domain = str(claims.get("email", "")).rpartition("@")[2].lower()
    return domain in {listed.lower() for listed in settings.email_domains}


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name; of ``realm_access.roles`` the roles within, unless a claim is called so itself."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
