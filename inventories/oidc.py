"""Sign-in at a provider that the organisation has already: off until a site names one."""

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from inventories.frozen import Frozen

SECRET = "oidc-client-secret"  # noqa: S105 - its name
Word = Annotated[str, Field(min_length=1, max_length=255)]
EmailDomain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class Oidc(Frozen):
    """An OpenID provider (Keycloak, Authentik, Entra …) at which people sign in, beside passwords."""

    issuer: Word = Field(description="its address, exactly as its discovery document says under issuer")
    client_id: Word = Field(description="what it calls this platform; the client's secret is a secret of the site")
    label: str = Field(default="single sign-on", min_length=1, max_length=40, description="Sign in with … on the page")
    scopes: str = Field(
        default="openid profile email", description="what it is asked for; some tell groups for a scope groups alone"
    )
    name_claim: Word = Field(
        default="preferred_username",
        description="claim that names a new person; of an address what stands before the @",
    )
    groups_claim: Word = Field(
        default="groups", description="claim that lists a person's groups; realm_access.roles looks within a claim"
    )
    admin_groups: tuple[Word, ...] = Field(default=(), description="who is in one of these is an administrator")
    editor_groups: tuple[Word, ...] = Field(default=(), description="else who is in one of these is an editor")
    reader_groups: tuple[Word, ...] = Field(default=(), description="else who is in one of these is a reader")
    create: bool = Field(default=False, description="whether somebody unknown is added at the first sign-in")
    email_domains: tuple[EmailDomain, ...] = Field(
        default=(), description="who has a verified address of one of these needs no group"
    )
    new_role: Literal["reader", "editor"] = Field(default="reader", description="the role of those without a group")
    ca_file: Path | None = Field(
        default=None, description="file on the controller with the CA that it is verified by; none: Debian's CAs"
    )
    provider_sign_out: bool = Field(default=True, description="whether a sign-out offers to sign out there too")

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        address = urlsplit(self.issuer)
        if address.scheme != "https" or not address.hostname or {"?", "#", " "} & set(self.issuer):
            raise ValueError(f"issuer = {self.issuer!r}; an https address without a query is needed")
        if "openid" not in self.scopes.split():
            raise ValueError(f"scopes = {self.scopes!r}; openid among them is needed")
        if self.create and not (self.admin_groups or self.editor_groups or self.reader_groups or self.email_domains):
            raise ValueError("create = True; groups or email_domains that say who is let in are needed")
        if self.ca_file:
            try:
                ssl.create_default_context(cafile=str(self.ca_file))
            except OSError as error:
                raise ValueError(
                    f"ca_file = {self.ca_file}; a file of certificates is needed ({error.strerror})"
                ) from None
        return self

    @property
    def port(self) -> int:
        """Where it is asked."""
        return urlsplit(self.issuer).port or 443
