"""Making documents searchable: passages, vectors and what every index is told, in one transaction."""

import uuid
from collections.abc import Sequence

from sqlalchemy import Connection

from app.ingest.embed import Embedded, Text, Worker, in_model
from app.settings_of_models import Embedder
from app.store import changes, documents, embeddings, jobs, models, passages
from app.store.database import writing
from app.store.passages import Vector


def publish(worker: Worker, texts: Sequence[Text], vectors: Embedded) -> list[Text]:
    """Make the documents searchable, and earlier versions of them gone; those that were this worker's to publish."""
    tokens = [uuid.uuid4() for _ in texts]

    def work(connection: Connection) -> Embedder | list[Text]:
        documents.hold_versions(connection, [one.document for one in texts])
        # Held, so that the site does not go over to a model at this moment that the documents lack.
        stored = models.stored(connection, hold=True)
        served = worker.settings.inference.embedder(stored.served.space if stored.served else None)
        if served and served.space not in vectors:
            return served
        published = []
        for place, (one, token) in enumerate(zip(texts, tokens, strict=True)):
            if served and jobs.finish(connection, one.job):
                found = {space: each[place] for space, each in vectors.items()}
                _put(connection, one, found, served, stored, token)
            elif not changes.told(connection, token):
                continue
            # Else an earlier try was committed, and only the answer to it got lost.
            published.append(one)
        return published

    while isinstance(done := writing(worker.primary, work), Embedder):
        # The site went over to another model meanwhile.
        vectors = vectors | {done.space: in_model(worker, texts, done, tells=False)}
    return done


def _put(
    connection: Connection,
    one: Text,
    vectors: dict[tuple[str, int], list[Vector]],
    served: Embedder,
    stored: models.Stored,
    token: uuid.UUID,
) -> None:
    document = one.document
    # Those of the same transaction are among them.
    earlier = documents.earlier_versions(connection, document)
    removed = _store(connection, one, vectors, served, stored)
    if removed:
        changes.append(connection, "deleted", document.collection_id, document.id, removed)
    for version in earlier:
        documents.delete(connection, version)
    documents.publish(connection, document.id, one.title)
    changes.append(connection, "indexed", document.collection_id, document.id, len(one.pieces), token)


def _store(
    connection: Connection,
    one: Text,
    vectors: dict[tuple[str, int], list[Vector]],
    served: Embedder,
    stored: models.Stored,
) -> int:
    """Put the passages in the place of earlier ones, whose number comes back, and a second model's vectors beside."""
    kept = [model for model in stored.kept if model.space in vectors]
    # What the change began with stays beside the text until its end; programs of before read nothing else.
    first = stored.change.old.space if stored.change and stored.change.old in kept else served.space
    new = [
        passages.NewPassage(ordinal, piece.text, piece.headings, piece.place, vector)
        for ordinal, (piece, vector) in enumerate(zip(one.pieces, vectors[first], strict=True))
    ]
    removed = passages.replace(connection, one.document.collection_id, one.document.id, first[0], new)
    for model in kept:
        if model.space != first:
            embeddings.add(connection, one.document.id, model, vectors[model.space])
    return removed
