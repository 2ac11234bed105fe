"""Sentence vectors from a BERT in GGUF, on the CPU: two texts at a time, each on one core."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from queue import PriorityQueue
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

from .gguf import F16, F32, Gguf
from .wordpiece import WordPiece

Matrix = NDArray[np.float32]

# Texts of one length run as one matrix; two threads, each with a single-threaded BLAS, beat one with two by a third.
_LANES = 2


# The first text of one request comes before the second of another: a question does not wait behind a batch of passages.
_waiting: PriorityQueue[tuple[int, int, Callable[[], Matrix], Future[Matrix]]] = PriorityQueue()
_arrivals = count()
_lanes: list[Thread] = []
_opening = Lock()


class Embedder:
    """Vectors of length one, as Ollama's embed gives them."""

    def __init__(self, model: Gguf) -> None:
        settings = model.metadata
        self.layers = int(settings["bert.block_count"])
        self.heads = int(settings["bert.attention.head_count"])
        self.dimension = int(settings["bert.embedding_length"])
        self.context = int(settings["bert.context_length"])
        self._tiny = np.float32(settings["bert.attention.layer_norm_epsilon"])
        self._weights = {name: _floats(model, name) for name in model.tensors}
        # Multiplying by the transposed copy spares BLAS a pass on every call.
        for name, values in self._weights.items():
            if name.startswith("blk.") and values.ndim == 2:
                self._weights[name] = np.ascontiguousarray(values.T)
        self._words = WordPiece(settings["tokenizer.ggml.tokens"])

    def tokens(self, text: str, longest: int) -> tuple[list[int], bool]:
        """The text's tokens, and whether it was cut."""
        return self._words.encode(text, min(longest, self.context))

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Matrix]:
        """One vector for each text's tokens."""
        return _in_lanes([partial(self._vector, one) for one in texts])

    def _vector(self, tokens: Sequence[int]) -> Matrix:
        weights = self._weights
        hidden: Matrix = weights["token_embd.weight"][list(tokens)] + weights["position_embd.weight"][: len(tokens)]
        hidden += weights["token_types.weight"][0]
        hidden = self._normed(hidden, "token_embd_norm")
        for layer in range(self.layers):
            block = f"blk.{layer}"
            hidden = self._normed(self._attention(hidden, block) + hidden, f"{block}.attn_output_norm")
            inner = _gelu(self._linear(hidden, f"{block}.ffn_up"))
            hidden = self._normed(self._linear(inner, f"{block}.ffn_down") + hidden, f"{block}.layer_output_norm")
        mean: Matrix = hidden.mean(axis=0)
        length = np.float32(np.linalg.norm(mean))
        return mean / length

    def _attention(self, hidden: Matrix, block: str) -> Matrix:
        query, key, value = (self._by_head(self._linear(hidden, f"{block}.attn_{part}")) for part in "qkv")
        scores: Matrix = query @ key.transpose(0, 2, 1)
        scores /= np.float32((self.dimension // self.heads) ** 0.5)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        joined = (scores @ value).transpose(1, 0, 2).reshape(-1, self.dimension)
        return self._linear(joined, f"{block}.attn_output")

    def _by_head(self, hidden: Matrix) -> Matrix:
        return hidden.reshape(len(hidden), self.heads, -1).transpose(1, 0, 2)

    def _linear(self, hidden: Matrix, name: str) -> Matrix:
        result: Matrix = hidden @ self._weights[f"{name}.weight"]
        result += self._weights[f"{name}.bias"]
        return result

    def _normed(self, hidden: Matrix, name: str) -> Matrix:
        hidden -= hidden.mean(axis=-1, keepdims=True)
        hidden /= np.sqrt(np.square(hidden).mean(axis=-1, keepdims=True) + self._tiny)
        hidden *= self._weights[f"{name}.weight"]
        hidden += self._weights[f"{name}.bias"]
        return hidden


def _in_lanes(tasks: Sequence[Callable[[], Matrix]]) -> list[Matrix]:
    with _opening:
        while len(_lanes) < _LANES:
            _lanes.append(Thread(target=_lane, daemon=True))
            _lanes[-1].start()
    results: list[Future[Matrix]] = [Future() for _ in tasks]
    for place, (task, result) in enumerate(zip(tasks, results, strict=True)):
        _waiting.put((place, next(_arrivals), task, result))
    return [result.result() for result in results]


def _lane() -> None:
    while True:
        _, _, task, result = _waiting.get()
        try:
            result.set_result(task())
        except Exception as error:
            result.set_exception(error)


def _floats(model: Gguf, name: str) -> Matrix:
    tensor = model.tensors[name]
    kind = {F32: np.float32, F16: np.float16}[tensor.kind]
    flat = np.fromfile(model.path, dtype=kind, count=int(np.prod(tensor.shape)), offset=tensor.offset)
    return flat.astype(np.float32).reshape(tensor.shape)


def _gelu(values: Matrix) -> Matrix:
    """In place, by its usual approximation with tanh: vectors stay within 1e-6 of the exact one."""
    bent = np.square(values)
    bent *= np.float32(0.044715)
    bent += np.float32(1)
    bent *= values
    bent *= np.float32(0.7978845608)
    np.tanh(bent, out=bent)
    bent += np.float32(1)
    bent *= values
    bent *= np.float32(0.5)
    return bent
