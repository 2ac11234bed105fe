"""Whether this host may get requests, and if not, which part is the reason."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app import metrics as figures
from app.answer import bounds
from app.api.context import Context, Here
from app.index.follower import is_filled, lag
from app.index.vectors import IndexUnavailableError
from app.inference import InferenceRefusedError, InferenceUnavailableError
from app.settings_of_models import Inference
from app.store import models
from app.store.database import reading

router = APIRouter(tags=["health"])

# A database machine without power costs 4: a ping that stays unanswered, and a try to reach it again. Both hosts of
# the API would lose it at once, so it must not make either unready. The balancer itself waits for 5.
CHECK_SECONDS = 4.5
# Several balancers ask each second; one look serves them all.
REMEMBERED_SECONDS = 0.5


class Live(BaseModel):
    status: str = Field(examples=["live"])


class Ready(BaseModel):
    """Whether this host can answer questions."""

    status: str = Field(description="ready or not ready", examples=["not ready"])
    parts: dict[str, str] = Field(
        description="Each part: ready, or why not.",
        examples=[{"database": "ready", "index": "index = being filled; the end of it", "inference": "ready"}],
    )
    notes: list[str] = Field(default=[], description="What makes nothing unready and should be known.")
    error: str | None = Field(default=None, description="The first part that is not ready, and why.")
    help: str | None = Field(default=None, description="The next step.")


@router.get("/health/live")
async def live() -> Live:
    """This process answers."""
    return Live(status="live")


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def ready(here: Here) -> Response:
    """200 when questions can be answered here; 503 names each part that is not ready, and why."""
    parts = await _remembered(here)
    sick = {name: reason for name, reason in parts.items() if reason}
    body: dict[str, Any] = {
        "status": "not ready" if sick else "ready",
        "parts": {n: r or "ready" for n, r in parts.items()},
        "notes": _notes(here.settings.inference),
    }
    if sick:
        name, reason = next(iter(sick.items()))
        body |= {"error": f"{name}: {reason}", "help": "journalctl -u rag-api"}
    return JSONResponse(body, 503 if sick else 200)


def _notes(inference: Inference) -> list[str]:
    return [
        f"inference.distances = none for {one.model}; two that rag eval proposes, else refusals rest on the words alone"
        for one in inference.embedders
        if bounds.of(inference, one.model) is None
    ]


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(here: Here) -> Response:
    """The numbers of all API processes of this host together."""
    figures.ACTIVE_USERS.set(here.active.count())
    registry = CollectorRegistry()
    registry.register(_OfAllProcesses())
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _OfAllProcesses(Collector):
    """The API's own figures; those of the other programs are loaded with it, and would stand there as zeros."""

    def collect(self) -> Iterable[Metric]:
        ours = {figure.name for figure in figures.API.collect()}
        every: Iterable[Metric] = MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]
        return [figure for figure in every if figure.name in ours]


_last: dict[str, Any] = {"until": 0.0, "parts": {}}


async def _remembered(here: Context) -> dict[str, str]:
    if time.monotonic() > _last["until"]:
        names: dict[str, Callable[[Context], Awaitable[str]]] = {
            "database": _database,
            "index": _index,
            "inference": _inference,
        }
        reasons = await asyncio.gather(*(_checked(check, here) for check in names.values()))
        _last.update(until=time.monotonic() + REMEMBERED_SECONDS, parts=dict(zip(names, reasons, strict=True)))
    parts: dict[str, str] = _last["parts"]
    return parts


async def _checked(check: Callable[[Context], Awaitable[str]], here: Context) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check(here)
    except TimeoutError:
        return f"no answer in {CHECK_SECONDS:g} s"
    except (SQLAlchemyError, IndexUnavailableError, InferenceUnavailableError, InferenceRefusedError) as error:
        return str(error).splitlines()[0]


async def _database(here: Context) -> str:
    stored = await asyncio.to_thread(reading, here.replica, models.stored)
    foreign = here.spaces.foreign(stored)
    if foreign is None:
        return ""
    ours = " or ".join(str(one) for one in here.settings.inference.embedders)
    return f"inference.embedding_model = {ours}; {foreign}, as the stored passages were embedded; rag reembed status"


async def _index(here: Context) -> str:
    served = (await asyncio.to_thread(reading, here.replica, models.stored)).served
    progress = await here.spaces.vectors(served).progress()
    slot = served.slot if served else ""
    if progress is None or not await is_filled(here.replica, progress, slot):
        return "index = being filled; the end of it; journalctl -u rag-index"
    most = here.settings.index.max_lag
    behind = await lag(here.replica, progress, most, slot)
    return f"index = more than {most} changes behind; fewer; journalctl -u rag-index" if behind > most else ""


async def _inference(here: Context) -> str:
    space = await here.spaces.now()
    missing = await here.inference.missing_models((here.settings.inference.chat_model, space.embedder.model))
    return f"inference = without {', '.join(missing)}; hosts with both models; ollama list" if missing else ""
