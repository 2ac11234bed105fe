"""Going over to another embedding model, beside everything else and with less precedence than any document.

All that is done is in PostgreSQL, a batch at a time, so it is gone on with after any death of this process; one worker
of the site leads at a time.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app import inference, metrics
from app.ingest.embed import Worker, embedded_text
from app.settings_of_models import Embedder
from app.store import embeddings, jobs, models, reembedding
from app.store.database import passing, reading, writing
from app.store.embeddings import START, Done, Key, Lacking
from app.store.models import Change, Kept
from app.store.passages import Vector
from app.store.replay import wait_for_replay

log = logging.getLogger(__name__)

# Of rows that change their place or go: a transaction that nobody waits long for.
ROWS = 500
# How long a batch waits for documents that no worker has taken yet; then it is done all the same.
GIVE_WAY_SECONDS = 1.0
# A passage that the model could not embed is tried again after so long: another host, or a newer one, may.
BAD_SECONDS = 600.0
# What any model can embed; who fails at it is sick, or not set up for it.
HARMLESS = "text"
# A look through all passages that finds nothing to do, or only counts, is not repeated before ten times as long.
REST = 10.0
COUNT_SECONDS = 5.0


class ChangedError(Exception):
    """The change went over into another state meanwhile."""


@dataclass
class Place:
    """How far this process has looked through the passages, for each model."""

    change: uuid.UUID | None = None
    lacking: dict[Kept, Key] = field(default_factory=dict)
    settled: Key = START
    # Passages that could not be embedded: in which version, and until when they are stepped over.
    bad: dict[tuple[Kept, Key], tuple[str, float]] = field(default_factory=dict)
    problem: str | None = None
    count_at: float = 0.0


def reembed(worker: Worker) -> None:
    """Lead the change, whenever there is one and no other worker does, until the process stops."""
    owner, place, pause = uuid.uuid4().hex, Place(), 0.0
    with ThreadPoolExecutor(worker.settings.ingest.threads, "reembed") as pool:
        while not worker.stopping.wait(pause):
            try:
                pause = _step(worker, owner, place, pool)
            except (inference.InferenceUnavailableError, inference.InferenceRefusedError) as error:
                pause = worker.settings.ingest.retry_seconds
                _give_up(worker, owner, str(error))
            except ChangedError:
                pause = 0.0
            except SQLAlchemyError as error:
                pause = worker.settings.ingest.retry_seconds
                level = logging.WARNING if passing(error) else logging.ERROR
                log.log(level, "reembedding = stands still: %s", str(error).splitlines()[0])
            except Exception:
                # A thread that ended would leave the change to the other hosts, and say nothing.
                pause = worker.settings.ingest.retry_seconds
                log.exception("reembedding = stands still")
    try:
        writing(worker.primary, lambda connection: models.leave(connection, owner), 0)
    except SQLAlchemyError:
        log.info("lead = not given back; it lapses")


def _step(worker: Worker, owner: str, place: Place, pool: ThreadPoolExecutor) -> float:
    """Do a piece of what is to do; how long to wait before the next."""
    ingest = worker.settings.ingest
    change = writing(worker.primary, lambda connection: models.lead(connection, owner, ingest.lease_seconds), 0)
    if change is None:
        _show(Done(0, 0))
        return ingest.poll_seconds
    _count(worker, change, place)
    if change.id != place.change:
        place.change, place.lacking, place.settled = change.id, {}, START
        place.bad.clear()
    began = time.monotonic()
    place.problem = None
    for kept in reembedding.wanted(change):
        if _embed_some(worker, change, kept, place, pool):
            return 0.0
    writing(worker.primary, lambda connection: models.tell_problem(connection, place.problem))
    if change.state in models.BOTH:
        if change.state == "embedding" and writing(worker.primary, reembedding.switch):
            wait_for_replay(worker.primary, worker.settings.database)
            log.info("reembedding = done; questions go over to %s", change.new)
    elif not _settle(worker, change, place):
        return 0.0
    return max(ingest.poll_seconds, REST * (time.monotonic() - began))


def _count(worker: Worker, change: Change, place: Place) -> None:
    """Keep the figures; all passages are looked at for them, so who leads does it alone and seldom."""
    began = time.monotonic()
    if began >= place.count_at:
        _show(reading(worker.primary, lambda connection: reembedding.counted(connection, change.new)))
        now = time.monotonic()
        place.count_at = now + max(COUNT_SECONDS, REST * (now - began))


def _show(done: Done) -> None:
    metrics.REEMBED_PASSAGES.set(done.passages)
    metrics.REEMBED_DONE.set(done.done)


def _embed_some(worker: Worker, change: Change, kept: Kept, place: Place, pool: ThreadPoolExecutor) -> bool:
    """Embed the next passages that lack this model; False when a look through all of them found none."""
    after = place.lacking.get(kept, START)
    if after == START and not reading(worker.primary, lambda connection: embeddings.count(connection, kept)).lacking:
        return False
    size = worker.settings.ingest.embed_batch
    most = size * worker.settings.ingest.threads
    found = _next(worker, kept, place, after, most)
    if not found:
        place.lacking[kept] = START
        return after != START
    _give_way(worker)
    batches = [found[start : start + size] for start in range(0, len(found), size)]
    vectors = [vector for some in pool.map(lambda batch: _vectors(worker, kept, batch), batches) for vector in some]
    made = [(one, vector) for one, vector in zip(found, vectors, strict=True) if vector is not None]
    place.bad |= {
        (kept, one.key): (one.version, time.monotonic() + BAD_SECONDS)
        for one, vector in zip(found, vectors, strict=True)
        if vector is None
    }

    def work(connection: Connection) -> None:
        # Held, so that nothing is left behind of a change that ends at this moment.
        now = models.change(connection, "for key share")
        if now is None or now.id != change.id or kept not in reembedding.wanted(now):
            raise ChangedError
        embeddings.complete(connection, kept, [one for one, _ in made], [vector for _, vector in made])

    writing(worker.primary, work)
    place.lacking[kept] = found[-1].key
    return True


def _next(worker: Worker, kept: Kept, place: Place, after: Key, most: int) -> list[Lacking]:
    """The next passages to embed; those that could not be a while ago are stepped over, and named as the problem."""
    while found := _lacking(worker, kept, after, most):
        now = time.monotonic()
        bad = [place.bad.get((kept, one.key), ("", 0.0)) for one in found]
        due = [one for one, (version, until) in zip(found, bad, strict=True) if version != one.version or until < now]
        if over := next((one for one in found if one not in due), None):
            place.problem = (
                f"document = {over.document_id}; one of which {kept} can embed passage {over.ordinal}"
                " (journalctl -u rag-worker says why); delete it, or rag reembed cancel"
            )
        if due:
            return due
        after = found[-1].key
    return []


def _lacking(worker: Worker, kept: Kept, after: Key, most: int) -> list[Lacking]:
    return reading(worker.primary, lambda connection: embeddings.lacking(connection, kept, after, most))


def _vectors(worker: Worker, kept: Kept, batch: Sequence[Lacking]) -> list[Vector | None]:
    """The passages' vectors, None for each that this model cannot embed."""
    configured = worker.settings.inference
    embedder = configured.embedder(kept.space)
    if embedder is None:
        raise inference.InferenceRefusedError(
            f"inference.next_embedding_model = {configured.next_embedding_model!r}; {kept} until the change is done;"
            " rag reembed status"
        )
    texts = [embedded_text(one.title, one.headings, one.text) for one in batch]
    try:
        return [*inference.embed_documents(worker.client, configured, embedder, texts)]
    except (inference.InferenceFailedError, inference.InferenceRefusedError):
        # Where it is no passage's fault this fails too, and nothing is stepped over.
        inference.embed_documents(worker.client, configured, embedder, [HARMLESS])
    return [_alone(worker, embedder, one, text) for one, text in zip(batch, texts, strict=True)]


def _alone(worker: Worker, embedder: Embedder, one: Lacking, text: str) -> Vector | None:
    try:
        [vector] = inference.embed_documents(worker.client, worker.settings.inference, embedder, [text])
    except (inference.InferenceFailedError, inference.InferenceRefusedError) as error:
        log.warning("document=%s passage=%d without a vector of %s: %s", one.document_id, one.ordinal, embedder, error)
        return None
    return vector


def _give_way(worker: Worker) -> None:
    """Let documents go first that nobody has taken yet; a stream of them without end only slows the change down."""
    deadline = time.monotonic() + GIVE_WAY_SECONDS
    while time.monotonic() < deadline and reading(worker.primary, jobs.queue).due:
        if worker.stopping.wait(GIVE_WAY_SECONDS / 5):
            return


def _settle(worker: Worker, change: Change, place: Place) -> bool:
    """Leave the served model alone in the database, some passages at a time; True when it is, or must be waited for."""
    served = change.served

    def move(connection: Connection) -> Key | None:
        return embeddings.settle(connection, served, place.settled, ROWS)

    if last := writing(worker.primary, move):
        place.settled = last
        return False
    went_through, place.settled = place.settled != START, START
    if writing(worker.primary, lambda connection: embeddings.clear(connection, served, ROWS)):
        return False
    if writing(worker.primary, lambda connection: reembedding.end_if_settled(connection, change)):
        log.info("reembedding = over; %s is the one embedding model", served)
        return True
    return not went_through


def _give_up(worker: Worker, owner: str, problem: str) -> None:
    """Say what the matter is and let another host try, which may reach what this one does not."""
    log.warning("reembedding = stands still: %s", problem)

    def work(connection: Connection) -> None:
        models.tell_problem(connection, problem)
        models.leave(connection, owner)

    try:
        writing(worker.primary, work, 0)
    except SQLAlchemyError as error:
        log.warning("reembedding = its problem not told: %s", str(error).splitlines()[0])
