"""The inference hosts as the application sees them: bounded, with deadlines, and with three kinds of failure."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import numpy as np
import ollama

from app import metrics
from app.answer.thinking import Spoken
from app.settings_of_models import Embedder, Inference
from app.store.passages import Vector

# A small model would go on to write passages and questions of its own.
STOP = ["<passage", "</passage", "</earlier", "\nQuestion:"]

# A model not there yet, a door before its service, a host in trouble, what HAProxy answers without one, and one that
# broke off in the middle.
_NO_HOST = frozenset({404, 425, 429, 502, 503, 504, -1})

# How Ollama itself, and the door before it, say that they have no place.
_BUSY = "server busy"


class InferenceUnavailableError(Exception):
    """No inference host answered in time; trying again later may help."""


class InferenceFailedError(InferenceUnavailableError):
    """An inference host took the request and failed at it; the host may be sick, or this request be what it dies of."""


class InferenceRefusedError(Exception):
    """An inference host refused this very request; trying again will not help."""


class BusyError(InferenceUnavailableError):
    """Too many answers are in the making; the caller should be told to come back."""


@dataclass(frozen=True)
class Usage:
    """How many tokens an answer took, as Ollama counted them; None where it did not."""

    prompt: int | None
    answer: int | None
    # "stop", or "length" where the answer was longer than it may be.
    reason: str


def embed_documents(
    client: ollama.Client, settings: Inference, embedder: Embedder, texts: Sequence[str]
) -> list[Vector]:
    """One vector for each text, in order."""
    with _failures(settings.url):
        answer = client.embed(
            model=embedder.model,
            input=[embedder.document_prefix + text for text in texts],
            keep_alive=settings.keep_alive,
        )
    return [_vector(settings, embedder, values) for values in answer.embeddings]


def worker_client(settings: Inference) -> ollama.Client:
    """A client for threads."""
    timeout = httpx.Timeout(settings.embed_deadline_seconds, connect=5)
    # By this the door of a host lets a question's embedding go before a document's.
    headers = {"x-rag-work": "ingestion"}
    return ollama.Client(host=settings.url, timeout=timeout, trust_env=False, headers=headers)


class InferencePool:
    """What the API asks of the inference hosts, at most so much at a time."""

    def __init__(self, settings: Inference) -> None:
        timeout = httpx.Timeout(settings.deadline_seconds, connect=5)
        self._settings = settings
        self._client = ollama.AsyncClient(host=settings.url, timeout=timeout, trust_env=False)
        # By this the door of a host says at once that every place is taken, instead of letting wait.
        headers = {"x-rag-patience": "none"}
        self._impatient = ollama.AsyncClient(host=settings.url, timeout=timeout, trust_env=False, headers=headers)
        self._answers = asyncio.Semaphore(settings.max_in_flight)
        # Embedding a question takes a fraction of an answer's time; searches must not queue behind answers.
        self._embeddings = asyncio.Semaphore(4 * settings.max_in_flight)
        self._orders = asyncio.Semaphore(settings.max_in_flight)

    async def embed_question(self, embedder: Embedder, question: str) -> Vector:
        """The question's vector."""
        settings = self._settings
        async with _turn(self._embeddings, settings.queue_seconds, "embedding"):
            with _failures(settings.url):
                async with asyncio.timeout(settings.embed_deadline_seconds):
                    answer = await self._client.embed(
                        model=embedder.model,
                        input=embedder.query_prefix + question,
                        keep_alive=settings.keep_alive,
                    )
        return _vector(settings, embedder, answer.embeddings[0])

    @property
    def all_taken(self) -> bool:
        """Whether a turn would have to be waited for now."""
        return self._answers.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the places for answers; raise BusyError when none comes free in time."""
        async with _turn(self._answers, self._settings.queue_seconds, "answer"):
            yield

    async def answer(self, system: str, user: str, *, patient: bool = True) -> AsyncGenerator[str | Usage]:
        """The model's answer, piece by piece and last what it took, all within the deadline.

        Raise BusyError when no host has a place, at once or, if ``patient``, after the hosts' doors have let wait.
        Closing the generator ends the work on the inference host too.
        """
        settings = self._settings
        spoken = Spoken()
        with _failures(settings.url):
            async with asyncio.timeout(settings.deadline_seconds):
                stream = await (self._client if patient else self._impatient).chat(
                    model=settings.chat_model,
                    messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
                    stream=True,
                    # What a model thinks would take the answer's tokens and time; one that cannot think lets it pass.
                    think=False,
                    options=_options(settings),
                    keep_alive=settings.keep_alive,
                )
                async with aclosing(_measured(stream)) as parts:
                    async for part in parts:
                        if said := spoken.heard(part.message.content or ""):
                            yield said
                        if part.done:
                            if said := spoken.rest():
                                yield said
                            yield Usage(part.prompt_eval_count, part.eval_count, part.done_reason or "stop")
                            return
        # A connection cut off cleanly looks like an end.
        raise InferenceUnavailableError(f"inference = {settings.url}; a host that answers to the end")

    @property
    def room(self) -> int:
        """Characters of a prompt that leave room for its instructions and the answer."""
        # Three characters a token, as in the prompt for answers.
        return 3 * (self._settings.num_ctx - self._settings.num_predict - 256)

    async def order(self, model: str, system: str, user: str, shape: dict[str, Any], seconds: float) -> str:
        """What the model says in this JSON shape, whole and within the seconds."""
        settings = self._settings
        async with _turn(self._orders, seconds, "order"):
            with _failures(settings.url):
                async with asyncio.timeout(seconds):
                    stream = await self._client.chat(
                        model=model,
                        messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
                        stream=True,
                        format=shape,
                        options={**_options(settings), "stop": []},
                        keep_alive=settings.keep_alive,
                    )
                    return "".join([part.message.content or "" async for part in stream])

    async def missing_models(self, wanted: Sequence[str]) -> list[str]:
        """Those of the models that the inference hosts do not have."""
        with _failures(self._settings.url):
            async with asyncio.timeout(3):
                answer = await self._client.list()
        present = {_tagged(model.model or "") for model in answer.models}
        return [model for model in wanted if _tagged(model) not in present]


async def _measured(stream: AsyncIterator[ollama.ChatResponse]) -> AsyncGenerator[ollama.ChatResponse]:
    """The parts of an answer; the last one tells how many tokens went in and came out."""
    began, first = time.monotonic(), True
    async with aclosing(cast(AsyncGenerator[ollama.ChatResponse], stream)) as parts:
        async for part in parts:
            if first and part.message.content:
                metrics.MODEL_FIRST_TOKEN_SECONDS.observe(time.monotonic() - began)
                first = False
            if part.done:
                metrics.MODEL_TOKENS.labels("in").inc(part.prompt_eval_count or 0)
                metrics.MODEL_TOKENS.labels("out").inc(part.eval_count or 0)
                metrics.MODEL_SECONDS.observe(time.monotonic() - began)
            yield part


@asynccontextmanager
async def _turn(places: asyncio.Semaphore, seconds: float, what: str) -> AsyncIterator[None]:
    try:
        with metrics.WAITING.labels(what).track_inprogress():
            async with asyncio.timeout(seconds):
                await places.acquire()
    except TimeoutError:
        metrics.SHED.labels(what).inc()
        raise BusyError(f"{what} = no free place in {seconds:g} s; a moment with fewer questions") from None
    metrics.IN_FLIGHT.labels(what).inc()
    try:
        yield
    finally:
        metrics.IN_FLIGHT.labels(what).dec()
        places.release()


@contextmanager
def _failures(url: str) -> Iterator[None]:
    try:
        yield
    except ollama.ResponseError as error:
        if error.status_code == 503 and _BUSY in error.error:
            raise BusyError(
                "answer = every place on the inference hosts is taken; a moment with fewer questions"
            ) from None
        if error.status_code in _NO_HOST:
            raise InferenceUnavailableError(f"inference = {url}; a host that answers ({error.error})") from None
        if error.status_code >= 500:
            raise InferenceFailedError(f"inference = {url}; a host that does not fail at it ({error.error})") from None
        raise InferenceRefusedError(f"inference = {url}; a request it accepts ({error.error})") from None
    except (ConnectionError, TimeoutError, httpx.HTTPError) as error:
        reason = type(error).__name__
        raise InferenceUnavailableError(f"inference = {url}; a host that answers in time ({reason})") from None


def _options(settings: Inference) -> dict[str, Any]:
    length = {"num_ctx": settings.num_ctx, "num_predict": settings.num_predict}
    return {**length, "temperature": 0, "stop": STOP}


def _vector(settings: Inference, embedder: Embedder, values: Sequence[float]) -> Vector:
    if len(values) != embedder.dimension:
        name = "embedding_dimension" if embedder == settings.embedders[0] else "next_embedding_dimension"
        raise InferenceRefusedError(
            f"inference.{name} = {embedder.dimension}; {len(values)}, as {embedder.model} gives"
        )
    return np.asarray(values, dtype=np.float32)


def _tagged(model: str) -> str:
    return model if ":" in model else f"{model}:latest"
