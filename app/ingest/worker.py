"""The worker's loop: one document, or a few small ones, at a time per thread, under leases that a crash lets lapse.

While some documents are embedded, as many others are read, so that the inference hosts never wait for a parser.
"""

import itertools
import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app import inference, metrics
from app.ingest.embed import AllLost, Held, Text, Worker, embedded
from app.ingest.outline import UnreadableError
from app.ingest.parse import can_shut_in, read
from app.ingest.publish import publish
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Size
from app.ingest.turns import InterruptedWorkError
from app.settings import Ingest, Settings
from app.store import documents, jobs, models
from app.store.database import passing, writing
from app.store.documents import Document
from app.store.jobs import Job
from app.store.listen import Listener

log = logging.getLogger(__name__)

# One to work with, one that keeps the lease meanwhile, and the listener's.
CONNECTIONS_PER_THREAD = 3
# Of small documents so many batches' worth of text go together, where so many wait that the threads of two hosts have
# as much.
BATCHES = 4
BYTES_PER_TOKEN = 4
HOSTS = 2


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
    """Do the oldest free job, and small ones with it; False when there was none, or none for this embedding model."""
    with ExitStack() as turn:
        # A job is taken when it can begin: waiting, it might as well be another worker's.
        turn.enter_context(worker.reading.one(worker.stopping))
        taken = _take(worker)
        if not taken:
            return False
        with _leases(worker, taken) as held:
            texts = _read(worker, held)
            turn.close()
            if texts:
                _finish(worker, texts)
    return True


def _take(worker: Worker) -> list[Job]:
    configured, ingest = worker.settings.inference, worker.settings.ingest
    owner, tries = uuid.uuid4().hex, itertools.count()

    def take(connection: Connection) -> list[Job]:
        foreign = models.stored(connection).foreign([one.space for one in configured.embedders])
        if foreign:
            log.error("inference.embedding_model = %s; %s is stored", configured.embedding_model, foreign)
            return []
        # Nobody told whether the first time arrived.
        if next(tries) and (ours := jobs.held(connection, owner)):
            return ours
        first = jobs.take(connection, owner, ingest.lease_seconds)
        # What was tried before may have been what a worker died of: alone it takes no other one along.
        if first is None or first.attempts > 1 or ingest.max_attempts == 1:
            return [first] if first else []
        return [first, *_fellows(connection, first, ingest)]

    return sorted(writing(worker.primary, take), key=lambda job: job.id)


def _fellows(connection: Connection, first: Job, ingest: Ingest) -> list[Job]:
    """Small documents to go with this one, so that batches for the model are full and transactions few."""
    whole = BATCHES * ingest.embed_batch * ingest.passage_tokens * BYTES_PER_TOKEN
    size = max(documents.size(connection, first.document_id), whole // ingest.embed_batch)
    most = min(ingest.embed_batch, whole // size) - 1
    return jobs.fellows(connection, first, most, HOSTS * 2 * ingest.threads, size) if most > 0 else []


def _read(worker: Worker, held: Sequence[Held]) -> list[Text]:
    """What the parsers find in the documents; of their bytes nothing stays."""
    ingest, found = worker.settings.ingest, []
    # A job given up in this round has nothing to begin.
    tried = {one.job.id for one in held if one.job.attempts > ingest.max_attempts}
    begun = _begun(worker, [one.job for one in held if one.job.id not in tried])
    for one in held:
        with _settling(worker, one.job):
            if one.job.id in tried:
                crashes = one.job.attempts - 1
                raise UnreadableError(f"document = {crashes} crashes; one that a worker survives, see its journal")
            if one.job.document_id not in begun or one.lost.is_set() or worker.stopping.is_set():
                raise InterruptedWorkError
            document, content = begun.pop(one.job.document_id)
            size = Size(ingest.passage_tokens, ingest.passage_overlap_tokens)
            parsed = read(content, document.file_name, ingest.limits, size)
            found.append(Text(one, document, parsed.title, parsed.pieces))
    return found


def _begun(worker: Worker, several: Sequence[Job]) -> dict[UUID, tuple[Document, bytes]]:
    """The documents that are this worker's, with their bytes; they are being read from now on."""

    def work(connection: Connection) -> dict[UUID, tuple[Document, bytes]]:
        ours = _still_ours(connection, several, worker.settings.ingest.lease_seconds)
        documents.mark_all(connection, dict.fromkeys(ours), "parsing")
        return documents.with_sources(connection, ours)

    return writing(worker.primary, work) if several else {}


def _still_ours(connection: Connection, several: Sequence[Job], lease_seconds: float) -> set[UUID]:
    # Held first, as whoever ends a job does. After a long wait for a primary a job may be another worker's.
    documents.hold(connection, [job.document_id for job in several])
    return jobs.extend(connection, several, lease_seconds)


def _finish(worker: Worker, texts: Sequence[Text]) -> None:
    """Embed and publish the documents together; where that fails and one may be to blame, each by itself."""
    if len(texts) > 1:
        try:
            _together(worker, texts)
            return
        except inference.InferenceFailedError as error:
            log.info("documents = %d by themselves from here on: %s", len(texts), error)
        except inference.InferenceUnavailableError as error:
            for one in texts:
                with _settling(worker, one.job):
                    raise error
            return
        except DBAPIError as error:
            if passing(error):
                raise
        except Exception as error:
            log.info("documents = %d by themselves from here on: %s", len(texts), type(error).__name__)
    refused = []
    for one in texts:
        try:
            with _settling(worker, one.job):
                _together(worker, [one])
        except DBAPIError as error:
            if passing(error) or len(texts) == 1:
                raise
            refused.append(error)
    if refused:
        raise refused[0]


def _together(worker: Worker, texts: Sequence[Text]) -> None:
    with worker.embedding.one(worker.stopping, AllLost([one.held for one in texts])):
        lease = worker.settings.ingest.lease_seconds

        def go_on(connection: Connection) -> tuple[set[UUID], models.Stored]:
            ours = _still_ours(connection, [one.job for one in texts], lease)
            totals = {one.document.id: len(one.pieces) for one in texts if one.document.id in ours}
            documents.mark_all(connection, totals, "embedding")
            return ours, models.stored(connection)

        ours, stored = writing(worker.primary, go_on)
        mine = [one for one in texts if one.document.id in ours]
        vectors = embedded(worker, mine, stored) if mine else {}
    published = publish(worker, mine, vectors) if mine else []
    for one in published:
        metrics.DOCUMENTS.labels("indexed").inc()
        log.info("indexed document=%s passages=%d", one.document.id, len(one.pieces))
    finished = {one.job.id for one in published}
    for one in texts:
        if one.job.id not in finished:
            _give_back(worker, one.job, None, 0, tried=False)


@contextmanager
def _settling(worker: Worker, job: Job) -> Iterator[None]:
    """Whatever goes wrong with the document, its job is given back or the document failed, with the reason told."""
    pause = worker.settings.ingest.retry_seconds
    try:
        yield
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
def _leases(worker: Worker, several: Sequence[Job]) -> Iterator[list[Held]]:
    """Keep extending the leases of jobs of one owner; each hears when it was lost all the same."""
    held, done = [Held(job, threading.Event()) for job in several], threading.Event()
    seconds = worker.settings.ingest.lease_seconds

    def extend() -> None:
        while not done.wait(seconds / 3):
            try:
                # Tried once: the next round is the repetition, and a finished document must not wait for this.
                ours = writing(worker.primary, lambda connection: jobs.extend(connection, several, seconds), 0)
            except SQLAlchemyError as error:
                about = several[0].document_id
                log.warning("lease of document=%s not extended: %s", about, str(error).splitlines()[0])
                continue
            for one in held:
                if one.job.document_id not in ours:
                    one.lost.set()
            if not ours:
                return

    thread = threading.Thread(target=extend, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        done.set()
        thread.join()
