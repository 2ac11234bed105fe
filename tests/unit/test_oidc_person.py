"""What a provider says of somebody, in whatever shape, becomes a name and a role."""

from typing import Any

import pytest

from app.oidc.person import name_of, person
from app.oidc.settings import Oidc
from app.store.users import Role

SETTINGS = Oidc(
    issuer="https://id.example.org",
    client_id="rag",
    admin_groups=("a",),
    editor_groups=("e",),
    reader_groups=("r",),
    create=True,
)
NESTED = SETTINGS.model_copy(update={"groups_claim": "realm_access.roles"})


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["x", "r", "e", "a"], "admin"),
        (["r", "e"], "editor"),
        (["r"], "reader"),
        ("r", "reader"),
        ("r e", None),
        (["R"], None),
        ([], None),
        (None, None),
        (5, None),
        ({"a": 1}, None),
        ([["a"], {"a": 1}, 1, None], None),
    ],
)
def test_the_greatest_of_the_groups_decides(groups: object, role: Role | None) -> None:
    assert person(SETTINGS, {"sub": "1", "groups": groups}).role == role


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"realm_access": {"roles": ["e"]}}, "editor"),
        ({"realm_access.roles": ["r"], "realm_access": {"roles": ["a"]}}, "reader"),
        ({"realm_access": ["a"]}, None),
        ({"realm_access": None}, None),
        ({}, None),
    ],
)
def test_groups_may_lie_within_a_claim(claims: dict[str, Any], role: Role | None) -> None:
    assert person(NESTED, {"sub": "1", **claims}).role == role


@pytest.mark.parametrize(
    ("claimed", "name"),
    [
        ("ada", "ada"),
        ("Ada.Lovelace@example.org", "ada.lovelace"),
        ("Ada Lovelace", "ada-lovelace"),
        ("../Ada\x00", "ada"),
        ("-ada-", "ada"),
        ("Jürgen", "j-rgen"),
        ("東京", ""),
        ("@example.org", ""),
        ("a" * 100, "a" * 63),
        (None, ""),
        (["ada"], ""),
    ],
)
def test_a_name_is_one_that_accounts_may_have(claimed: object, name: str) -> None:
    assert name_of(claimed) == name


@pytest.mark.parametrize(
    ("claims", "groups_claim", "untold"),
    [
        ({"_claim_names": {"groups": "src1"}}, "groups", True),
        ({"_claim_names": {"groups": "src1"}, "email": "a@example.org", "email_verified": True}, "groups", True),
        ({"hasgroups": True}, "groups", True),
        # Roles come whole, however many groups somebody has.
        ({"_claim_names": {"groups": "src1"}, "roles": ["r"]}, "roles", False),
        ({"hasgroups": True, "roles": ["r"]}, "roles", False),
        ({"hasgroups": True}, "roles", False),
        ({"_claim_names": {"groups": "src1"}, "groups": ["r"]}, "groups", False),
        ({"_claim_names": "groups"}, "groups", False),
        ({}, "groups", False),
    ],
)
def test_groups_are_untold_where_the_provider_says_so_and_tells_none(
    claims: dict[str, Any], groups_claim: str, untold: bool
) -> None:
    settings = SETTINGS.model_copy(update={"groups_claim": groups_claim, "email_domains": ("example.org",)})

    assert person(settings, {"sub": "1", **claims}).untold is untold
