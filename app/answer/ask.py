"""From a question to a checked answer, as events in the order a reader wants them."""

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from app import metrics
from app.answer import bounds, cite, prompt
from app.answer.memory import Turn, recalled
from app.answer.prompt import Prompt
from app.inference import BusyError, InferencePool, InferenceRefusedError, InferenceUnavailableError, Usage
from app.retrieve.search import Found
from app.settings import Settings
from app.settings_of_models import Inference
from app.store.passages import Passage

log = logging.getLogger(__name__)

# Each is half of the passages before it; where a third one does not fit, the settings are wrong.
MOST_READINGS = 3


@dataclass(frozen=True)
class Event:
    name: str
    data: dict[str, Any]
    # What an answer took; beside the data, since it is nothing a reader asks for.
    usage: Usage | None = None


@dataclass
class Said:
    """What the model has said so far."""

    pieces: list[str] = field(default_factory=list)
    begun: bool = False
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def ask(
    settings: Settings,
    inference: InferencePool,
    question: str,
    found: Found,
    began: float,
    earlier: Sequence[Turn] = (),
) -> AsyncGenerator[Event]:
    """``passages``, then a ``token`` for each piece of the raw answer, then ``answer`` with what held up.

    ``waiting`` comes before the first token when every inference host is full. A ``restart`` takes back the tokens so
    far: a host failed in the middle and another one begins anew, or the model had read less than all and gets fewer
    ``passages``.
    """
    remembered = recalled(earlier, min(settings.answering.memory_tokens, settings.inference.num_ctx // 4))
    wanted: Sequence[Passage] = [] if bounds.is_far(settings.inference, found) else found.passages
    for left in reversed(range(MOST_READINGS)):
        made = prompt.build(question, wanted, settings.inference, remembered)
        yield Event("passages", {"passages": [described(passage) for passage in made.passages]})
        said = Said()
        if made.passages:
            async with aclosing(_generated(inference, made.text, said, began)) as events:
                async for event in events:
                    yield event
        if not _was_cut(made, said.usage, settings.inference):
            break
        if not left or len(made.passages) == 1:
            needed = f"more than {said.usage.prompt if said.usage else 0} tokens of prompt take, or smaller passages"
            raise InferenceRefusedError(f"inference.num_ctx = {settings.inference.num_ctx}; {needed}")
        yield Event("restart", {})
        wanted, remembered = made.passages[: len(made.passages) // 2], []
    near = bounds.near(settings.inference, found)
    checked = cite.check(found.weights, said.text, made.passages, settings.answering, near)
    metrics.ANSWER_SECONDS.observe(time.monotonic() - began)
    metrics.QUESTIONS.labels("supported" if checked.supported else "refused").inc()
    yield Event("answer", _answer(checked, settings.inference.chat_model), said.usage)


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


async def _generated(inference: InferencePool, text: str, said: Said, began: float) -> AsyncGenerator[Event]:
    """The model's words; ``waiting`` when every place of every host is taken, ``restart`` when one fails."""
    tries = 0
    patient = False
    while True:
        said.pieces.clear()
        try:
            async with aclosing(inference.answer(prompt.SYSTEM, text, patient=patient)) as answer:
                async for piece in answer:
                    if isinstance(piece, Usage):
                        said.usage = piece
                        continue
                    if not said.begun:
                        metrics.FIRST_TOKEN_SECONDS.observe(time.monotonic() - began)
                        said.begun = True
                    said.pieces.append(piece)
                    yield Event("token", {"text": piece})
            return
        except BusyError:
            # The proxy has asked every host, and a patient one has waited at each.
            if patient:
                raise
            patient = True
            yield Event("waiting", {})
        except InferenceUnavailableError as error:
            tries += 1
            if tries == 2:
                raise
            log.warning("%s; asking another host", error)
            yield Event("restart", {})


def _was_cut(made: Prompt, usage: Usage | None, settings: Inference) -> bool:
    if usage is None or not usage.prompt:
        return False
    metrics.PROMPT_RATIO.observe(made.tokens / usage.prompt)
    if not prompt.was_cut(made, usage, settings):
        return False
    metrics.CUT_PROMPTS.inc()
    log.warning(
        "inference.num_ctx = %d; room for a prompt estimated at %d tokens, of which %d were read",
        settings.num_ctx,
        made.tokens,
        usage.prompt,
    )
    return True


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
