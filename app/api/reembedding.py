"""Going over to another embedding model: begun, watched, taken back and finished by administrators."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.api.context import Admin, By, Context, Here, NewId
from app.api.problems import Problem
from app.inference import InferenceRefusedError, InferenceUnavailableError
from app.settings_of_models import Embedder
from app.store import audit, models, reembedding
from app.store.models import Change, State

router = APIRouter(prefix="/api/v1/reembedding", tags=["operation"])

THING = "reembedding"


class IndexOfHost(BaseModel):
    """How one app host's index stands with the other model's vectors."""

    host: str
    index: Literal["complete", "filling", "absent", "without the model", "old release"]


class Reembedding(BaseModel):
    """How far a change of the embedding model is; without one ``state`` is "none"."""

    state: Literal["none", "embedding", "switched", "held", "finishing", "cancelling"] = Field(
        description="embedding: the new model's vectors are being made, the old one is served. switched: questions go"
        " to the new one, both are kept. held: back with the old one, both are kept. finishing, cancelling: the one"
        " that is not served is being taken away."
    )
    served: str | None = Field(description="The model that questions are embedded with; null while nothing is stored.")
    other: str | None = Field(description="The model beside it; without a change the site's next one, if it names one.")
    passages: int = Field(description="Passages there are.")
    done: int = Field(description="Of those, with a vector of the other model.")
    hosts: list[IndexOfHost]
    started_by: str | None
    started_at: datetime | None
    problem: str | None = Field(description="What keeps it from going on.")
    next: str = Field(description="What an operator does next.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "state": "embedding",
                "served": "nomic-embed-text:v1.5 (768)",
                "other": "bge-m3:latest (1024)",
                "passages": 100_000,
                "done": 41_216,
                "hosts": [{"host": "app1", "index": "filling"}, {"host": "app2", "index": "filling"}],
                "started_by": "admin",
                "started_at": "2026-11-27T09:30:00Z",
                "problem": None,
                "next": "wait; questions go over by themselves; rag reembed cancel takes it back",
            }
        }
    )


@router.get("")
def show_reembedding(_: Admin, here: Here) -> Reembedding:
    """How far the change is, and what comes next."""
    return here.fresh(lambda connection: _shown(connection, here))


@router.post("", status_code=202)
async def start_reembedding(_: Admin, by: By, here: Here, new_id: NewId) -> Reembedding:
    """Begin to embed every passage with the site's next model, or go on after going back; the old one is served on."""
    wanted = here.settings.inference.embedders
    missing = await _missing(here, wanted)

    def work(connection: Connection) -> Reembedding:
        stored = models.stored(connection)
        change = models.change(connection, "for update")
        if change is None:
            served, following = _following(here, stored)
            if following.model in missing:
                raise Problem(
                    409, f"inference = without {following.model}; hosts that have it", "deploy the site, then start"
                )
            if old := reembedding.outdated(reembedding.hosts(connection, models.Kept(*following.space))):
                raise Problem(409, f"release of {', '.join(old)} = an earlier one; this one", "deploy the site")
            models.begin(connection, new_id, served, *following.space, by.name)
            change = models.change(connection, "for update")
            audit.note(connection, by, "reembedding.start", THING, {"model": str(following)})
        elif change.state == "held":
            if held_up := _held_up(reembedding.hosts(connection, change.new), change.new):
                raise Problem(409, held_up, "rag reembed status")
            models.move(connection, "embedding")
            audit.note(connection, by, "reembedding.start", THING, {"model": str(change.new)})
        elif change.state != "embedding":
            raise _not_now(change, "embedding or held")
        return _shown(connection, here)

    return await here.write(work)


@router.post("/back")
async def go_back(_: Admin, by: By, here: Here) -> Reembedding:
    """Serve the old model again, at once; both are kept."""

    def work(connection: Connection) -> Reembedding:
        change = _under_way(connection)
        if change.state == "switched":
            if held_up := _held_up(reembedding.hosts(connection, change.old), change.old):
                raise Problem(409, held_up, "rag reembed status")
            if lacking := reembedding.counted(connection, change.old).lacking:
                raise Problem(409, f"{change.old} = without vectors of {lacking} passages; all", "try again later")
            models.move(connection, "held")
            audit.note(connection, by, "reembedding.back", THING, {"model": str(change.old)})
        elif change.state != "held":
            raise _not_now(change, "switched")
        return _shown(connection, here)

    return await here.write_everywhere(work)


@router.post("/finish", status_code=202)
async def finish_reembedding(_: Admin, by: By, here: Here) -> Reembedding:
    """Take the old model's vectors away, from PostgreSQL and from every index; there is no way back after this."""

    def work(connection: Connection) -> Reembedding:
        change = _under_way(connection)
        if change.state == "switched":
            if behind := [one.name for one in reembedding.hosts(connection, change.new) if one.index != "complete"]:
                raise Problem(409, f"index of {', '.join(behind)} = not complete; all", "rag reembed status")
            models.move(connection, "finishing")
            audit.note(connection, by, "reembedding.finish", THING, {"model": str(change.new)})
        elif change.state != "finishing":
            raise _not_now(change, "switched")
        return _shown(connection, here)

    return await here.write_everywhere(work)


@router.delete("", status_code=202)
async def cancel_reembedding(_: Admin, by: By, here: Here) -> Reembedding:
    """Take the new model's vectors away, while the old one is served."""

    def work(connection: Connection) -> Reembedding:
        change = _under_way(connection)
        if change.state in {"embedding", "held"}:
            models.move(connection, "cancelling")
            audit.note(connection, by, "reembedding.cancel", THING, {"model": str(change.new)})
        elif change.state != "cancelling":
            raise _not_now(change, "embedding or held", "rag reembed back comes first")
        return _shown(connection, here)

    return await here.write_everywhere(work)


async def _missing(here: Context, wanted: tuple[Embedder, ...]) -> list[str]:
    try:
        return await here.inference.missing_models([one.model for one in wanted])
    except (InferenceUnavailableError, InferenceRefusedError):
        # It waits for them, and says so.
        return []


def _following(here: Context, stored: models.Stored) -> tuple[models.Kept, Embedder]:
    """The model that is served, and the one that the site wants to go to; raise 409 without either."""
    if stored.served is None:
        needed = "documents; without any, another inference.embedding_model and a deploy are enough"
        raise Problem(409, f"passages = 0; {needed}", "deploy the site")
    if not here.settings.inference.next_embedding_model:
        raise Problem(
            409, "inference.next_embedding_model = none; the model to go to", "set it in the site's file, deploy"
        )
    first = here.settings.inference.embedders[0]
    if first.space != stored.served.space:
        done = f"inference.embedding_model = {first}; {stored.served}"
        raise Problem(409, f"{done}, which is served already", "set it so in the site's file, deploy")
    return stored.served, here.settings.inference.embedders[1]


def _under_way(connection: Connection) -> Change:
    change = models.change(connection, "for update")
    if change is None:
        raise Problem(409, "reembedding = none; one that is under way", "rag reembed start")
    return change


def _not_now(change: Change, needed: str, help_: str = "rag reembed status") -> Problem:
    return Problem(409, f"reembedding = {change.state}; {needed}", help_)


def _shown(connection: Connection, here: Context) -> Reembedding:
    stored = models.stored(connection)
    change, configured = stored.change, here.settings.inference.embedders
    served = str(stored.served) if stored.served else None
    if change is None:
        following = [one for one in configured if not stored.served or one.space != stored.served.space][:1]
        passages = reembedding.passages(connection)
        return Reembedding(
            state="none",
            served=served,
            other=str(following[0]) if following and len(configured) > 1 else None,
            passages=passages,
            done=0,
            hosts=[],
            started_by=None,
            started_at=None,
            problem=None,
            next=_to_do(stored, configured),
        )
    counted = reembedding.counted(connection, change.other)
    found = reembedding.hosts(connection, change.other)
    return Reembedding(
        state=change.state,
        served=served,
        other=str(change.other),
        passages=counted.passages,
        done=counted.done,
        hosts=[IndexOfHost.model_validate({"host": one.name, "index": one.index}) for one in found],
        started_by=change.started_by,
        started_at=change.started_at,
        problem=change.problem or _held_up(found, change.other),
        next=NEXT[change.state],
    )


def _held_up(found: Sequence[reembedding.Host], other: models.Kept) -> str | None:
    if not (without := reembedding.without_model(found)):
        return None
    return f"site's file on {', '.join(without)} = without {other}; next_embedding_model, as elsewhere; deploy the site"


NEXT: dict[State, str] = {
    "embedding": "wait; questions go over by themselves; rag reembed cancel takes it back",
    "switched": "look whether answers are good; then rag reembed finish, or rag reembed back",
    "held": "rag reembed start goes over again, rag reembed cancel takes the new model away",
    "finishing": "wait until the old model is gone",
    "cancelling": "wait until the new model is gone",
}


def _to_do(stored: models.Stored, configured: tuple[Embedder, ...]) -> str:
    first = configured[0]
    if stored.served and stored.served.space != first.space:
        return (
            f"set inference.embedding_model to {stored.served.model} and embedding_dimension to"
            f" {stored.served.dimension}, take next_embedding_model out of the site's file, deploy"
        )
    if len(configured) > 1:
        return "rag reembed start"
    return "nothing; inference.next_embedding_model in the site's file names a model to go to"
