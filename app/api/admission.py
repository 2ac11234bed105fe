"""Who comes back from the site's provider is let in, as whom, and with which role; or told why not."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.api import tokens
from app.api.context import Context
from app.api.problems import Problem
from app.oidc.person import Person
from app.oidc.settings import Oidc
from app.store import audit, identities, refusals, sessions
from app.store.audit import Actor, Detail
from app.store.identities import Known
from app.store.sessions import Session

ASK = "ask an administrator"


async def admitted(here: Context, settings: Oidc, by: Actor, who: Person) -> Session:
    """A session of the user whom the person is; raise 403 or 409 for who is not let in.

    Where nothing is to be changed, it needs no primary.
    """

    def look(connection: Connection) -> Known | None:
        return identities.find(connection, settings.issuer, who.subject)

    known = await run_in_threadpool(here.fresh, look)
    refusal = _refusal(settings, who, known)
    if refusal:
        metrics.SIGN_INS.labels("refused").inc()
        here.later.write("sign-in", _noted(settings, by, who, known, accepted=False))
        raise refusal
    if known and (not settings.maps_roles or who.role == known.user.role):
        metrics.SIGN_INS.labels("accepted").inc()
        here.later.write("sign-in", _noted(settings, by, who, known, accepted=True))
        return _begun(here, known)

    new_id = uuid4()

    def work(connection: Connection) -> Known | Problem:
        found = identities.find(connection, settings.issuer, who.subject)
        if found is None:
            outcome = _created(connection, settings, by, who, new_id)
        else:
            # Between the look and now somebody may have shut the person out.
            outcome = _refusal(settings, who, found) or _with_role(connection, settings, by, who, found)
        accepted = isinstance(outcome, Known)
        _noted(settings, by, who, outcome if isinstance(outcome, Known) else found, accepted=accepted)(connection)
        return outcome

    # A role may be taken away: once we have answered, no server lets the next request have it.
    outcome = await here.write_everywhere(work)
    metrics.SIGN_INS.labels("refused" if isinstance(outcome, Problem) else "accepted").inc()
    if isinstance(outcome, Problem):
        raise outcome
    return _begun(here, outcome)


def _refusal(settings: Oidc, who: Person, known: Known | None) -> Problem | None:
    """Why the person is not let in, as far as nothing has to be written for it."""
    if known and known.disabled:
        return Problem(403, f"account = {known.user.name}, which is shut out; an open one", ASK)
    if settings.maps_roles and who.untold:
        # Neither a domain's role nor none: both would take away what the groups may give.
        needed = f"{settings.groups_claim} = more than {settings.label} tells at once; fewer, or roles in their place"
        return Problem(403, needed, f"{ASK} of {settings.label}")
    if known:
        return None
    if not settings.create:
        return Problem(403, f"account = none yet; one that is linked to {_named(settings, who)}", ASK)
    if who.role is None:
        needed = "one that is let in" if settings.maps_roles else "an address of a domain that is let in"
        return Problem(403, f"groups = none of those that are let in; {needed}", f"{ASK} of {settings.label}")
    return None


def _created(connection: Connection, settings: Oidc, by: Actor, who: Person, new_id: UUID) -> Known | Problem:
    if not who.name or who.role is None:
        needed = f"a name of letters and digits in the claim {settings.name_claim}"
        return Problem(409, f"name = none in what {settings.label} says; {needed}", f"{ASK} of {settings.label}")
    made = identities.create(connection, settings.issuer, who.subject, new_id, who.name, who.role)
    if made is None:
        # Who has a like name there may be somebody else here: only a person can know.
        taken = f"name = {who.name}, which is somebody's account; one not taken yet"
        return Problem(409, taken, f"{ASK} to link {who.name} to {_named(settings, who)} if it is yours")
    detail = {"role": who.role, **_told(settings, who)}
    audit.note(connection, replace(by, name=who.name), "user.create", f"users/{who.name}", detail)
    return made


def _with_role(connection: Connection, settings: Oidc, by: Actor, who: Person, known: Known) -> Known | Problem:
    """The user with the role that the groups ask for; who is in none has what a reader has, and is not let in."""
    if not settings.maps_roles:
        return known
    applied = identities.apply_role(connection, known, who.role or "reader")
    if applied.changed or applied.kept:
        detail: Detail = {"role": applied.known.user.role, **_told(settings, who)}
        if applied.kept:
            detail["kept"] = "the last administrator with a password"
        named = replace(by, name=known.user.name)
        audit.note(connection, named, "user.change", f"users/{known.user.name}", detail)
    if who.role is None and not applied.kept:
        sessions.end_all(connection, known.user.id)
        return Problem(403, "groups = none of those that are let in; one of them", f"{ASK} of {settings.label}")
    return applied.known


def _begun(here: Context, known: Known) -> Session:
    return tokens.began(known.user.id, known.generation, here.settings.refresh_seconds)


def _noted(
    settings: Oidc, by: Actor, who: Person, known: Known | None, *, accepted: bool
) -> Callable[[Connection], None]:
    named = replace(by, name=known.user.name if known else "unknown")

    def noted(connection: Connection) -> None:
        if accepted:
            audit.note(connection, named, "sign-in.accepted", "token", _told(settings, who))
        else:
            refusals.note(connection, named, "sign-in", _told(settings, who))

    return noted


def _told(settings: Oidc, who: Person) -> Detail:
    return {"provider": settings.issuer, "subject": who.subject}


def _named(settings: Oidc, who: Person) -> str:
    return f"the subject {who.subject} of {settings.label}"
