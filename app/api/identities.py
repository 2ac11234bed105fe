"""Who signs in at the site's provider as whom, where an administrator says so."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.accounts import shown_again
from app.api.context import Admin, By, Context, Here
from app.api.problems import Problem
from app.api.users import UserShown, known
from app.store import audit, identities, users

router = APIRouter(prefix="/api/v1/users", tags=["people"])


class IdentityWanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    subject: str = Field(
        min_length=1, max_length=255, description="What the provider calls the person; a refused sign-in names it."
    )
    current: str = Field(default="", max_length=1000, description="One's own password, where the user is oneself.")


@router.put("/{name}/identity")
async def link_user(me: Admin, by: By, here: Here, name: str, wanted: IdentityWanted) -> UserShown:
    """Let a person of the site's provider sign in as this user; nobody is linked by a like name or address."""
    issuer = _issuer(here)
    if name == me.name:
        # Whoever found an administrator's open browser must not make a sign-in of it.
        await shown_again(here, by, wanted.current)

    def work(connection: Connection) -> UserShown:
        user = known(connection, name)
        if not identities.link(connection, issuer, wanted.subject, user.id):
            taken = f"{name}, {wanted.subject} = one of them is linked already; neither"
            raise Problem(409, taken, "DELETE /api/v1/users/{name}/identity of the one that is")
        detail = {"provider": issuer, "subject": wanted.subject}
        audit.note(connection, by, "user.link", f"users/{name}", detail)
        return UserShown.of(users.entry(connection, user.id))

    return await here.write(work)


@router.delete("/{name}/identity", status_code=204)
async def unlink_user(_: Admin, by: By, here: Here, name: str) -> None:
    """Let nobody of the site's provider sign in as this user any more; the user's sessions end."""
    issuer = _issuer(here)

    def work(connection: Connection) -> None:
        user = known(connection, name)
        identities.unlink(connection, issuer, user.id)
        audit.note(connection, by, "user.unlink", f"users/{name}", {"provider": issuer})

    await here.write_everywhere(work)


def _issuer(here: Context) -> str:
    if here.provider is None:
        raise Problem(409, "oidc.issuer = unset; a provider", "docs/operations.md says how a site gets one")
    return here.provider.settings.issuer
