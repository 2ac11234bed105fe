"""From a question to a checked answer, as events in the order a reader wants them."""

import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from app import metrics
from app.answer import cite, prompt
from app.inference import InferencePool, InferenceUnavailableError
from app.retrieve.search import Found
from app.settings import Settings
from app.store.passages import Passage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    name: str
    data: dict[str, Any]


async def ask(
    settings: Settings, inference: InferencePool, question: str, found: Found, began: float
) -> AsyncIterator[Event]:
    """``passages``, then a ``token`` for each piece of the raw answer, then ``answer`` with what held up.

    A ``restart`` takes back the tokens so far: a host failed in the middle and another one begins anew.
    """
    text, fitting = prompt.build(question, found.passages, settings.inference)
    yield Event("passages", {"passages": [described(passage) for passage in fitting]})
    pieces: list[str] = []
    if fitting:
        async for event in _generated(inference, text, began):
            if event.name == "restart":
                pieces.clear()
            else:
                pieces.append(event.data["text"])
            yield event
    checked = cite.check(found.weights, "".join(pieces), fitting, settings.answering)
    metrics.ANSWER_SECONDS.observe(time.monotonic() - began)
    metrics.QUESTIONS.labels("supported" if checked.supported else "refused").inc()
    yield Event("answer", _answer(checked, settings.inference.chat_model))


def described(passage: Passage) -> dict[str, Any]:
    """Where a passage stands, for a reader."""
    return {
        "document_id": str(passage.document_id),
        "passage": passage.ordinal,
        "title": passage.title,
        "section": passage.section,
        "headings": passage.headings,
        "page": passage.page,
        "place": passage.place,
        "url": f"/documents/{passage.document_id}/passages/{passage.ordinal}",
    }


async def _generated(inference: InferencePool, text: str, began: float) -> AsyncIterator[Event]:
    first = True
    for attempt in (1, 2):
        try:
            async for piece in inference.answer(prompt.SYSTEM, text):
                if first:
                    metrics.FIRST_TOKEN_SECONDS.observe(time.monotonic() - began)
                    first = False
                yield Event("token", {"text": piece})
            return
        except InferenceUnavailableError as error:
            if attempt == 2:
                raise
            log.warning("%s; asking another host", error)
            yield Event("restart", {})


def _answer(checked: cite.Checked, model: str) -> dict[str, Any]:
    citations = [
        {"number": citation.number, **described(citation.passage), "quote": citation.quote}
        for citation in checked.citations
    ]
    return {
        "answer": checked.answer,
        "supported": checked.supported,
        "refused": not checked.supported,
        "citations": citations,
        "unsupported": list(checked.unsupported),
        "model": model,
    }
