"""Embedding documents' passages: in the model that is served, and in a change of it also in the one beside it."""

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import ollama
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app import inference, metrics
from app.ingest.split import Piece
from app.ingest.turns import InterruptedWorkError, Turns
from app.settings import Settings
from app.settings_of_models import Embedder
from app.store import documents, passages
from app.store.database import writing
from app.store.documents import Document
from app.store.jobs import Job
from app.store.models import Stored

log = logging.getLogger(__name__)

BATCH_TRIES = 4
PROGRESS_SECONDS = 1.0

Embedded = dict[tuple[str, int], list[list[passages.Vector]]]
"""By model, the vectors of each document's passages in their order."""


@dataclass(frozen=True)
class Held:
    """A job that this worker has, and the event by which it hears that the job is another's."""

    job: Job
    lost: threading.Event


@dataclass(frozen=True)
class Text:
    """What was read of a document."""

    held: Held
    document: Document
    title: str
    pieces: Sequence[Piece]

    @property
    def job(self) -> Job:
        """By which it is in hand."""
        return self.held.job

    def embedded_texts(self) -> list[str]:
        """What the model gets of its pieces."""
        # A passage seldom says what it is about; its document's title and its headings do.
        return [embedded_text(self.title, piece.headings, piece.text) for piece in self.pieces]


@dataclass(frozen=True)
class AllLost:
    """That none of the documents is this worker's any more."""

    several: Sequence[Held]

    def is_set(self) -> bool:
        """Whether it is so."""
        return all(one.lost.is_set() for one in self.several)


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


def embedded(worker: Worker, texts: Sequence[Text], stored: Stored) -> Embedded:
    """The vectors of all pieces in the model that is served, and in a change also in the one beside it.

    What the other one lacks, as when no inference host has it, is done later with what was there before.
    """
    configured = worker.settings.inference
    served = configured.embedder(stored.served.space if stored.served else None)
    if served is None:
        raise InterruptedWorkError
    found = {served.space: in_model(worker, texts, served, tells=True)}
    for kept in stored.kept[1:]:
        beside = configured.embedder(kept.space)
        if beside is None:
            continue
        try:
            found[beside.space] = in_model(worker, texts, beside, tells=False)
        except (inference.InferenceUnavailableError, inference.InferenceRefusedError) as error:
            for one in texts:
                log.warning("document=%s without vectors of %s for now: %s", one.document.id, beside, error)
    return found


def in_model(worker: Worker, texts: Sequence[Text], embedder: Embedder, *, tells: bool) -> list[list[passages.Vector]]:
    """The vectors of all documents' pieces in order, in batches that are full; ``tells`` shows people how far they are.

    A document that the model fails at fails all of them.
    """
    size = worker.settings.ingest.embed_batch
    each = [one.embedded_texts() for one in texts]
    whole = list(itertools.chain.from_iterable(each))
    found: list[passages.Vector] = []
    told = time.monotonic()
    for start in range(0, len(whole), size):
        batch = whole[start : start + size]
        # What is done later anyway holds no document up.
        found += _vectors(worker, embedder, batch, texts, BATCH_TRIES if tells else 1)
        metrics.PASSAGES.inc(len(batch) if tells else 0)
        if tells and time.monotonic() - told >= PROGRESS_SECONDS:
            _tell(worker, texts, len(found))
            told = time.monotonic()
    vectors = iter(found)
    return [list(itertools.islice(vectors, len(some))) for some in each]


def embedded_text(title: str, headings: Sequence[str], text: str) -> str:
    """What of a passage the model embeds."""
    return f"{' > '.join((title, *headings))}\n{text}"


def _tell(worker: Worker, texts: Sequence[Text], done: int) -> None:
    """Show how far the documents are, and hear of those that were cancelled."""

    def work(connection: Connection) -> list[Text]:
        left, gone = done, []
        for one in texts:
            if left > 0 and not documents.count_done(connection, one.job, min(left, len(one.pieces))):
                gone.append(one)
            left -= len(one.pieces)
        return gone

    try:
        for one in writing(worker.primary, work, 0):
            one.held.lost.set()
    except SQLAlchemyError as error:
        log.warning("progress of document=%s not told: %s", texts[0].document.id, str(error).splitlines()[0])


def _vectors(
    worker: Worker, embedder: Embedder, batch: list[str], texts: Sequence[Text], tries: int
) -> list[passages.Vector]:
    """The batch's vectors; a host's bad moment costs this batch and not all those before it."""
    left, lost = tries, AllLost([one.held for one in texts])
    while not (worker.stopping.is_set() or lost.is_set()):
        left -= 1
        try:
            with metrics.EMBED_SECONDS.time():
                return inference.embed_documents(worker.client, worker.settings.inference, embedder, batch)
        except inference.InferenceUnavailableError as error:
            # Of several documents one may be to blame, which is found out sooner one by one.
            if not left or (len(texts) > 1 and isinstance(error, inference.InferenceFailedError)):
                raise
            log.warning("batch tried again, %d times more at most: %s", left, error)
            worker.stopping.wait(worker.settings.ingest.retry_seconds)
    raise InterruptedWorkError
