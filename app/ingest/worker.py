"""The worker's loop: one document at a time per thread, under a lease that a crash lets lapse.

While some documents are embedded, as many others are read, so that the inference hosts never wait for a parser.
"""

import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app import inference, metrics
from app.ingest.embed import Embedded, Worker, embedded, in_model, texts_of
from app.ingest.outline import UnreadableError
from app.ingest.parse import can_shut_in, read
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Piece, Size
from app.ingest.turns import InterruptedWorkError
from app.settings import Settings
from app.settings_of_models import Embedder
from app.store import changes, documents, embeddings, jobs, models, passages
from app.store.database import writing
from app.store.documents import Document
from app.store.jobs import Job
from app.store.listen import Listener

log = logging.getLogger(__name__)

# One to work with, one that keeps the lease meanwhile, and the listener's.
CONNECTIONS_PER_THREAD = 3


def threads(settings: Settings) -> int:
    """How many of ``work`` fill both kinds of turns."""
    return 2 * settings.ingest.threads


def work(worker: Worker) -> None:
    """Take and finish jobs until the process stops."""
    listener = Listener(worker.primary, jobs.CHANNEL, worker.stopping)
    while not worker.stopping.is_set():
        try:
            busy = work_once(worker)
        except InterruptedWorkError:
            break
        except SQLAlchemyError as error:
            log.warning("database = %s; a primary that accepts us", str(error).splitlines()[0])
            worker.stopping.wait(worker.settings.ingest.retry_seconds)
            continue
        if not busy:
            listener.wait(worker.settings.ingest.poll_seconds)
    listener.close()


def work_once(worker: Worker) -> bool:
    """Do the oldest free job; False when there was none, or none may be done with this embedding model."""
    with ExitStack() as turn:
        # A job is taken when it can begin: waiting, it might as well be another worker's.
        turn.enter_context(worker.reading.one(worker.stopping))
        job = _take(worker)
        if job is None:
            return False
        with _lease(worker, job) as lost:
            _do(worker, job, lost, turn)
    return True


def _take(worker: Worker) -> Job | None:
    configured = worker.settings.inference
    owner = uuid.uuid4().hex

    def take(connection: Connection) -> Job | None:
        foreign = models.stored(connection).foreign([one.space for one in configured.embedders])
        if foreign:
            log.error("inference.embedding_model = %s; %s is stored", configured.embedding_model, foreign)
            return None
        return jobs.take(connection, owner, worker.settings.ingest.lease_seconds)

    return writing(worker.primary, take)


def _do(worker: Worker, job: Job, lost: threading.Event, turn: ExitStack) -> None:
    pause = worker.settings.ingest.retry_seconds
    try:
        if job.attempts > worker.settings.ingest.max_attempts:
            raise UnreadableError(f"document = {job.attempts - 1} crashes; one that a worker survives, see its journal")
        document, title, pieces = _read(worker, job)
        turn.close()
        with worker.embedding.one(worker.stopping, lost):
            lease = worker.settings.ingest.lease_seconds
            writing(worker.primary, lambda connection: _go_on(connection, job, lease, len(pieces)))
            vectors = embedded(worker, job, title, pieces, lost)
        _publish(worker, job, document, title, pieces, vectors, lost)
        metrics.DOCUMENTS.labels("indexed").inc()
        log.info("indexed document=%s passages=%d", job.document_id, len(pieces))
    except InterruptedWorkError:
        _give_back(worker, job, None, 0, tried=False)
    except inference.InferenceUnavailableError as error:
        # Without a host the document waits for ever; one that every host fails at must not.
        tried = isinstance(error, inference.InferenceFailedError)
        if tried and job.attempts >= worker.settings.ingest.max_attempts:
            _fail(worker, job, str(error))
            return
        log.warning("waiting document=%s %s", job.document_id, error)
        _give_back(worker, job, f"waiting: {error}", pause, tried=tried)
    except OpenDoorError as error:
        # The machine is to blame and not the document, which waits for a better one; unless others are read here.
        log.error("%s", error)
        tried = can_shut_in(worker.settings.ingest.limits)
        if tried and job.attempts >= worker.settings.ingest.max_attempts:
            _fail(worker, job, "document = its parser alone is not shut in here; a copy saved anew by its program")
            return
        _give_back(worker, job, f"waiting: {error}", pause, tried=tried)
    except (UnreadableError, inference.InferenceRefusedError) as error:
        # systemd ends the parser together with the worker, which says nothing about the document.
        if worker.stopping.wait(0.5):
            _give_back(worker, job, None, 0, tried=False)
            return
        _fail(worker, job, str(error))
    except SQLAlchemyError:
        # No primary to tell: the lease lapses and the attempt counts.
        raise
    except Exception as error:
        log.exception("document=%s", job.document_id)
        if job.attempts >= worker.settings.ingest.max_attempts:
            _fail(worker, job, f"document = {type(error).__name__}; one that the worker can read, see its journal")


def _read(worker: Worker, job: Job) -> tuple[Document, str, Sequence[Piece]]:
    """The document, its title and its pieces; of its bytes nothing stays."""
    ingest = worker.settings.ingest
    document, content = writing(worker.primary, lambda connection: _begin(connection, job, ingest.lease_seconds))
    found = read(content, document.file_name, ingest.limits, Size(ingest.passage_tokens, ingest.passage_overlap_tokens))
    return document, found.title, found.pieces


def _begin(connection: Connection, job: Job, lease_seconds: float) -> tuple[Document, bytes]:
    # Held first, as whoever ends a job does. After a long wait for a primary the job may be another worker's.
    document = documents.locked(connection, job.document_id)
    if document is None or not jobs.extend(connection, job, lease_seconds):
        raise InterruptedWorkError
    documents.mark(connection, job.document_id, "parsing")
    return document, documents.source(connection, job.document_id)


def _go_on(connection: Connection, job: Job, lease_seconds: float, total: int) -> None:
    if documents.locked(connection, job.document_id) is None or not jobs.extend(connection, job, lease_seconds):
        raise InterruptedWorkError
    documents.mark(connection, job.document_id, "embedding", total=total)


def _publish(
    worker: Worker,
    job: Job,
    document: Document,
    title: str,
    pieces: Sequence[Piece],
    vectors: Embedded,
    lost: threading.Event,
) -> None:
    """Make the document searchable, and earlier versions of it gone, in one transaction."""
    token = uuid.uuid4()

    def work(connection: Connection) -> Embedder | None:
        earlier = documents.earlier_versions(connection, document)
        # Held, so that the site does not go over to a model at this moment that the document lacks.
        stored = models.stored(connection, hold=True)
        served = worker.settings.inference.embedder(stored.served.space if stored.served else None)
        if served and served.space not in vectors:
            return served
        if served is None or not jobs.finish(connection, job):
            if changes.told(connection, token):
                # An earlier try was committed, and only the answer to it got lost.
                return None
            raise InterruptedWorkError
        removed = _store(connection, document, pieces, vectors, served, stored)
        if removed:
            changes.append(connection, "deleted", document.collection_id, document.id, removed)
        for version in earlier:
            documents.delete(connection, version)
        documents.publish(connection, document.id, title)
        changes.append(connection, "indexed", document.collection_id, document.id, len(pieces), token)
        return None

    while lacking := writing(worker.primary, work):
        # The site went over to another model meanwhile.
        vectors = vectors | {
            lacking.space: list(in_model(worker, job, lacking, texts_of(title, pieces), lost, tells=False))
        }


def _store(
    connection: Connection,
    document: Document,
    pieces: Sequence[Piece],
    vectors: Embedded,
    served: Embedder,
    stored: models.Stored,
) -> int:
    """Put the passages in the place of earlier ones, whose number comes back, and a second model's vectors beside."""
    kept = [one for one in stored.kept if one.space in vectors]
    # What the change began with stays beside the text until its end; programs of before read nothing else.
    first = stored.change.old.space if stored.change and stored.change.old in kept else served.space
    new = [
        passages.NewPassage(ordinal, piece.text, piece.headings, piece.place, vector)
        for ordinal, (piece, vector) in enumerate(zip(pieces, vectors[first], strict=True))
    ]
    removed = passages.replace(connection, document.collection_id, document.id, first[0], new)
    for one in kept:
        if one.space != first:
            embeddings.add(connection, document.id, one, vectors[one.space])
    return removed


def _give_back(worker: Worker, job: Job, why: str | None, pause: float, *, tried: bool) -> None:
    def work(connection: Connection) -> None:
        documents.locked(connection, job.document_id)
        if jobs.release(connection, job, pause, tried=tried):
            documents.mark(connection, job.document_id, "queued", why)

    writing(worker.primary, work)
    metrics.DOCUMENTS.labels("retried").inc()


def _fail(worker: Worker, job: Job, why: str) -> None:
    def work(connection: Connection) -> None:
        documents.locked(connection, job.document_id)
        if jobs.finish(connection, job):
            documents.mark(connection, job.document_id, "failed", why)

    writing(worker.primary, work)
    metrics.DOCUMENTS.labels("failed").inc()
    # Why stands beside the document: a library's reason may quote its text.
    log.info("failed document=%s", job.document_id)


@contextmanager
def _lease(worker: Worker, job: Job) -> Iterator[threading.Event]:
    """Keep extending the job's lease; the event yielded is set when it was lost all the same."""
    lost, done = threading.Event(), threading.Event()
    seconds = worker.settings.ingest.lease_seconds

    def extend() -> None:
        while not done.wait(seconds / 3):
            try:
                # Tried once: the next round is the repetition, and a finished document must not wait for this.
                if not writing(worker.primary, lambda connection: jobs.extend(connection, job, seconds), 0):
                    lost.set()
                    return
            except SQLAlchemyError as error:
                log.warning("lease of document=%s not extended: %s", job.document_id, str(error).splitlines()[0])

    thread = threading.Thread(target=extend, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
