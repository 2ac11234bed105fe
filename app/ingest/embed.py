"""Embedding a document's passages: in the model that is served, and in a change of it also in the one beside it."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import ollama
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import inference, metrics
from app.ingest.split import Piece
from app.ingest.turns import InterruptedWorkError, Turns
from app.settings import Settings
from app.settings_of_models import Embedder
from app.store import documents, models, passages
from app.store.database import reading, writing
from app.store.jobs import Job

log = logging.getLogger(__name__)

BATCH_TRIES = 4
PROGRESS_SECONDS = 1.0

Embedded = dict[tuple[str, int], list[passages.Vector]]
"""By model, the vectors of a document's passages in their order."""


@dataclass(frozen=True)
class Worker:
    settings: Settings
    primary: Engine
    client: ollama.Client
    stopping: threading.Event
    # A document in memory as it was uploaded, and a parser; then its text, and calls to the inference hosts.
    reading: Turns = field(init=False)
    embedding: Turns = field(init=False)

    def __post_init__(self) -> None:
        for name in ("reading", "embedding"):
            object.__setattr__(self, name, Turns(self.settings.ingest.threads))


def embedded(worker: Worker, job: Job, title: str, pieces: Sequence[Piece], lost: threading.Event) -> Embedded:
    """The vectors of all pieces in the model that is served, and in a change also in the one beside it.

    What the other one lacks, as when no inference host has it, is done later with what was there before.
    """
    stored = reading(worker.primary, models.stored)
    configured = worker.settings.inference
    served = configured.embedder(stored.served.space if stored.served else None)
    if served is None:
        raise InterruptedWorkError
    found = {served.space: list(in_model(worker, job, served, texts_of(title, pieces), lost, tells=True))}
    for kept in stored.kept[1:]:
        beside = configured.embedder(kept.space)
        if beside is None:
            continue
        try:
            found[beside.space] = list(in_model(worker, job, beside, texts_of(title, pieces), lost, tells=False))
        except (inference.InferenceUnavailableError, inference.InferenceRefusedError) as error:
            log.warning("document=%s without vectors of %s for now: %s", job.document_id, beside, error)
    return found


def texts_of(title: str, pieces: Sequence[Piece]) -> list[str]:
    """What the model gets of them."""
    # A passage seldom says what it is about; its document's title and its headings do.
    return [embedded_text(title, piece.headings, piece.text) for piece in pieces]


def in_model(
    worker: Worker, job: Job, embedder: Embedder, texts: list[str], lost: threading.Event, *, tells: bool
) -> Iterator[passages.Vector]:
    """The vectors of all texts in order; ``tells`` shows people how far they are."""
    size = worker.settings.ingest.embed_batch
    told = time.monotonic()
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        # What is done later anyway holds no document up.
        yield from _vectors(worker, embedder, batch, lost, BATCH_TRIES if tells else 1)
        metrics.PASSAGES.inc(len(batch) if tells else 0)
        if tells and time.monotonic() - told >= PROGRESS_SECONDS:
            _tell(worker, job, start + len(batch))
            told = time.monotonic()


def embedded_text(title: str, headings: Sequence[str], text: str) -> str:
    """What of a passage the model embeds."""
    return f"{' > '.join((title, *headings))}\n{text}"


def _tell(worker: Worker, job: Job, done: int) -> None:
    """Show how far the document is, and end the work here when it was cancelled."""
    try:
        if not writing(worker.primary, lambda connection: documents.count_done(connection, job, done), 0):
            raise InterruptedWorkError
    except SQLAlchemyError as error:
        log.warning("progress of document=%s not told: %s", job.document_id, str(error).splitlines()[0])


def _vectors(
    worker: Worker, embedder: Embedder, texts: list[str], lost: threading.Event, tries: int
) -> list[passages.Vector]:
    """The batch's vectors; a host's bad moment costs this batch and not all those before it."""
    left = tries
    while not (worker.stopping.is_set() or lost.is_set()):
        left -= 1
        try:
            with metrics.EMBED_SECONDS.time():
                return inference.embed_documents(worker.client, worker.settings.inference, embedder, texts)
        except inference.InferenceUnavailableError as error:
            if not left:
                raise
            log.warning("batch tried again, %d times more at most: %s", left, error)
            worker.stopping.wait(worker.settings.ingest.retry_seconds)
    raise InterruptedWorkError
