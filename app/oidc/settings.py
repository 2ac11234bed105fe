"""What a site says about its provider; the client's secret is the credential oidc-client-secret."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.table import Seconds, Table


class Oidc(Table):
    issuer: str = Field(description="The provider's address, exactly as its discovery document names it.")
    client_id: str = Field(min_length=1, max_length=255, description="What the provider calls this platform.")
    label: str = Field(default="single sign-on", min_length=1, max_length=40, description="The button's last words.")
    scopes: str = Field(default="openid profile email", description="What is asked for, with spaces between.")
    name_claim: str = Field(default="preferred_username", min_length=1, description="Claim a new person is named by.")
    groups_claim: str = Field(
        default="groups", min_length=1, description="Claim that lists groups; a dot leads into a claim's own."
    )
    admin_groups: tuple[str, ...] = Field(default=(), description="Groups whose people are administrators.")
    editor_groups: tuple[str, ...] = Field(default=(), description="Groups whose people are editors.")
    reader_groups: tuple[str, ...] = Field(default=(), description="Groups whose people are readers.")
    create: bool = Field(default=False, description="Whether somebody unknown is added at the first sign-in.")
    email_domains: tuple[str, ...] = Field(
        default=(), description="Domains whose people, their address verified, need no group."
    )
    new_role: Literal["reader", "editor"] = Field(default="reader", description="Role of somebody without a group.")
    ca_file: str = Field(default="", description="CA file that the provider is verified with; empty: the system's.")
    provider_sign_out: bool = Field(default=True, description="Whether a sign-out leads on to the provider's own.")
    deadline_seconds: Seconds = Field(default=5, description="Longest wait for one answer of the provider's.")

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        if not self.issuer.startswith("https://") or {"?", "#", " "} & set(self.issuer):
            raise ValueError(f"oidc.issuer = {self.issuer!r}; an https address without a query")
        if "openid" not in self.scopes.split():
            raise ValueError(f"oidc.scopes = {self.scopes!r}; openid among them")
        if self.create and not (self.maps_roles or self.email_domains):
            raise ValueError("oidc.create = true; groups or email_domains that say who is let in")
        return self

    @property
    def maps_roles(self) -> bool:
        """Whether the provider's groups say who has which role; else administrators do."""
        return bool(self.admin_groups or self.editor_groups or self.reader_groups)
