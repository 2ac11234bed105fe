"""What the model's side of a request does: rendering, drafting, writing, and vectors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import prompts, reading
from .apart import Apart
from .environment import Environment
from .runners import Loaded, Runners
from .store import Model, models
from .writer import Listener, Writer, Written

_DRAFT = {"temperature": 0, "num_predict": 32, "repeat_penalty": 1.0, "stop": ["\n"]}
Gone = Callable[[], bool]


class TooLongError(Exception):
    """A text beyond the context, from somebody who wants no cut."""

    def __init__(self) -> None:
        super().__init__("the input length exceeds the context length")


@dataclass(frozen=True)
class Vectors:
    embeddings: list[list[float]]
    tokens: int


def context_of(model: Model, options: Mapping[str, Any], environment: Environment) -> int:
    """Tokens the model is loaded for: the request's wish, its own or the service's, within what it was made for."""
    wanted = options.get("num_ctx") or model.parameters.get("num_ctx") or environment.context
    made_for = int(model.weights.metadata[f"{model.config['model_family']}.context_length"])
    return min(int(wanted), made_for)


def vectors(loaded: Loaded, texts: Sequence[str], *, truncate: bool) -> Vectors:
    """One vector of length one for each text; what exceeds the context is cut in silence, unless that is refused."""
    embedder = loaded.runner
    assert isinstance(embedder, Apart)
    found = embedder.vectors(texts, loaded.context, truncate=truncate)
    if "embeddings" not in found:
        raise TooLongError
    return Vectors(found["embeddings"], found["tokens"])


class Answering:
    """Turns requests into text."""

    def __init__(self, environment: Environment, runners: Runners) -> None:
        self._environment = environment
        self._runners = runners

    def chat(
        self,
        writer: Writer,
        messages: Sequence[Mapping[str, Any]],
        options: dict[str, Any],
        listen: Listener,
        gone: Gone,
    ) -> Written:
        """Go on with a conversation; a question about passages gets the help that reading.py describes."""
        prompt = writer.tokens(prompts.chat(messages))
        last = messages[-1]
        wanted = reading.task(str(last.get("content") or "")) if last.get("role") == "user" else None
        # Whoever sends more than fits shall see what Ollama makes of it.
        if wanted is None or len(prompt) >= writer.context:
            return writer.write(prompt, options, listen)
        written = self._from_passages(writer, wanted, options, listen, gone)
        written.prompt_tokens = len(prompt)
        return written

    def _from_passages(
        self, writer: Writer, wanted: reading.Task, options: dict[str, Any], listen: Listener, gone: Gone
    ) -> Written:
        candidates = reading.nearest(wanted, self._likeness(wanted.question))
        message = {"role": "user", "content": reading.draft_message(wanted.question, candidates)}
        prompt = writer.tokens(prompts.chat([message]))
        sentence = f"{reading.REFUSAL}."
        if candidates:
            draft = writer.write(prompt, _DRAFT, lambda _: gone())
            sentence = reading.quoted(wanted.question, draft.text, candidates)
        return writer.write(prompt, {**options, "temperature": 0}, listen, reading.grammar(sentence))

    def _likeness(self, question: str) -> reading.Likeness:
        def likeness(texts: Sequence[str]) -> list[float]:
            with self._embedder() as loaded:
                if loaded is None or not texts:
                    return [1.0] * len(texts)
                asked, *found = vectors(loaded, [question, *texts], truncate=True).embeddings
            return [sum(one * other for one, other in zip(asked, vector, strict=True)) for vector in found]

        return likeness

    @contextmanager
    def _embedder(self) -> Iterator[Loaded | None]:
        model = next((one for one in models(self._environment.models) if one.embeds), None)
        if model is None:
            yield None
            return
        context = context_of(model, {}, self._environment)
        with self._runners.using(model, context, self._environment.keep_alive) as (loaded, _):
            yield loaded
