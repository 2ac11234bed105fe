"""The thread that leads a change of the embedding model: nothing ends it but the end of its process."""

import threading
from dataclasses import replace
from typing import Any
from uuid import UUID

import ollama
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.inference import InferenceRefusedError, InferenceUnavailableError
from app.ingest import reembed
from app.ingest.embed import Worker
from app.settings import Settings
from app.store.embeddings import Lacking
from app.store.models import Kept

CONFIGURATION = {
    "domain": "rag.test",
    "database": {"hosts": ["127.0.0.1"]},
    "inference": {
        "url": "http://127.0.0.1:1",
        "chat_model": "chat",
        "embedding_model": "embed",
        "embedding_dimension": 2,
    },
    "ingest": {"retry_seconds": 0.01, "poll_seconds": 0.01},
}


@pytest.fixture
def worker() -> Worker:
    settings = Settings.model_validate(CONFIGURATION)
    return Worker(settings, create_engine("sqlite://"), ollama.Client(host="http://127.0.0.1:1"), threading.Event())


@pytest.mark.parametrize(
    "lost", [OperationalError("update", None, Exception("gone")), PoolTimeoutError("no connection")]
)
def test_it_goes_on_though_neither_inference_nor_the_database_answers(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, lost: Exception
) -> None:
    steps = 0

    def step(*_: object) -> float:
        nonlocal steps
        steps += 1
        if steps == 1:
            raise InferenceUnavailableError("inference = away")
        worker.stopping.set()
        return 0.0

    def writing(*_: Any) -> None:
        raise lost

    monkeypatch.setattr(reembed, "_step", step)
    monkeypatch.setattr(reembed, "writing", writing)
    reembed.reembed(worker)

    assert steps == 2


class Choosy:
    """An inference host that fails at texts with one of these words in them."""

    def __init__(self, *words: str, length: int = 2) -> None:
        self.words, self.length = words, length

    def embed(self, *, input: list[str], **_: object) -> ollama.EmbedResponse:  # noqa: A002 - the client's own name
        if any(word in text for word in self.words for text in input):
            raise ollama.ResponseError("the runner ended", 500)
        return ollama.EmbedResponse(embeddings=[[1.0] * self.length for _ in input])


def vectors(worker: Worker, monkeypatch: pytest.MonkeyPatch, host: Choosy) -> list[bool]:
    """Whether each of three passages has a vector."""
    monkeypatch.setattr(worker.client, "embed", host.embed)
    batch = [Lacking(UUID(int=number), 0, "1", f"{number}.txt", [], "words") for number in range(3)]
    return [vector is not None for vector in reembed._vectors(worker, Kept("embed", 2), batch)]


def test_a_passage_that_the_model_cannot_embed_costs_no_other_its_vector(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    assert vectors(worker, monkeypatch, Choosy("1.txt")) == [True, False, True]
    assert vectors(worker, monkeypatch, Choosy(".txt")) == [False, False, False]


def test_a_host_that_fails_at_everything_is_no_passages_fault(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    with pytest.raises(InferenceUnavailableError):
        vectors(worker, monkeypatch, Choosy(""))


def test_a_length_that_the_model_does_not_have_is_refused_by_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    inference = worker.settings.inference.model_copy(
        update={"next_embedding_model": "next", "next_embedding_dimension": 3}
    )
    between = replace(worker, settings=worker.settings.model_copy(update={"inference": inference}))
    monkeypatch.setattr(worker.client, "embed", Choosy(length=4).embed)

    one = Lacking(UUID(int=1), 0, "1", "1.txt", [], "words")
    for kept, name in ((Kept("embed", 2), "inference.embedding_dimension"), (Kept("next", 3), "next_embedding_dim")):
        with pytest.raises(InferenceRefusedError, match=name):
            reembed._vectors(between, kept, [one])
