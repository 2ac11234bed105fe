"""The thread that leads a change of the embedding model: nothing ends it but the end of its process."""

import threading
from typing import Any

import ollama
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.inference import InferenceUnavailableError
from app.ingest import reembed
from app.ingest.embed import Worker
from app.settings import Settings

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
