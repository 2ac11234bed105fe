"""The optional reranking: an order that a model gives in time, and what was there without it."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from app.inference import InferencePool
from app.retrieve.rerank import reranked
from app.settings_of_models import Inference
from app.store.passages import Passage
from tests.app.ollama_standin import CHAT, EMBED, OllamaStandin

FOUND = [Passage(uuid4(), 0, "Harbour", "", None, f"The crane number {number} lifts." * 200) for number in range(30)]


@pytest.fixture
def ollama() -> Iterator[OllamaStandin]:
    standin = OllamaStandin()
    yield standin
    standin.reset()
    standin.stop()


def order(ollama: OllamaStandin, seconds: float = 5) -> list[int]:
    settings = Inference(url=ollama.url, chat_model=CHAT, embedding_model=EMBED, embedding_dimension=1, num_ctx=2048)
    return asyncio.run(reranked(InferencePool(settings), CHAT, seconds, "Which crane lifts?", FOUND))


@pytest.mark.parametrize(
    ("said", "first"),
    [
        ('{"order": [3, 1, 3, 21, 0, -4]}', [2, 0]),
        ("Passage 20 is best, then 2.", [19, 1]),
        ("I do not know.", []),
        ('{"order": "none"}', []),
    ],
)
def test_what_the_model_names_comes_first_and_nothing_is_lost(
    ollama: OllamaStandin, said: str, first: list[int]
) -> None:
    ollama.says = said

    places = order(ollama)

    assert places[: len(first)] == first
    assert places[len(first) :] == [place for place in range(30) if place not in first]
    assert len(ollama.prompts[-1]) / 3 < 2048 - 256


def test_a_model_that_is_late_or_gone_costs_the_order_and_not_the_search(ollama: OllamaStandin) -> None:
    ollama.says, ollama.answer_seconds = '{"order": [3]}', 1
    late = order(ollama, seconds=0.1)
    ollama.breaks_off, ollama.says, ollama.answer_seconds = 1, '{"order": [3, 2, 1]}', 0
    broken = order(ollama)

    assert late == broken == list(range(30))
