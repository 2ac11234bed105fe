"""Text from a GGUF model with llama.cpp: streamed, bounded by its context, stopped when nobody listens."""

import ctypes
import importlib
import json
import os
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore, Thread, get_native_id
from typing import Any

from .prompts import fitting

# Debian's minimal systems lack it, so the archive brings it: lib/ollama/libgomp.so.1.
_OPENMP = Path(__file__).parent.parent / "libgomp.so.1"
# A second thread gains a third in writing when the cores are idle, and loses more when they are not.
_READING, _WRITING = 2, 1
# A GPU's work takes no core away from anybody, so this work, which stands for it, lets everything else go first.
_NICENESS = 15
# Room for an answer whose length nobody has bounded.
_ANSWER = 256

# Takes a piece of text; True stops the model.
Listener = Callable[[str], bool]


class WriterError(Exception):
    """llama.cpp's words on what went wrong."""


@dataclass
class Written:
    """What was written, and what it took."""

    text: str = ""
    reason: str = "stop"
    prompt_tokens: int = 0
    tokens: int = 0
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    heard: bool = field(default=True, repr=False)


class Writer:
    """A loaded model with a number of places, each with a context of its own."""

    def __init__(self, path: Path, context: int, parallel: int) -> None:
        if _OPENMP.exists():
            ctypes.CDLL(str(_OPENMP), ctypes.RTLD_GLOBAL)
        llama = importlib.import_module("xllamacpp")
        settings = llama.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx = context * parallel
        settings.n_parallel = parallel
        settings.kv_unified = False
        settings.verbosity = -1
        settings.warmup = False
        settings.cpuparams.n_threads, settings.cpuparams_batch.n_threads = _WRITING, _READING
        self._server = _yielding(lambda: llama.Server(settings))
        self._address: str = self._server.listening_address
        self.context = context
        self.places = Semaphore(parallel)

    def tokens(self, prompt: str) -> list[int]:
        """The prompt as the model counts it."""
        body = json.dumps({"content": prompt, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(  # noqa: S310 - llama.cpp's own loopback address
            f"{self._address}/tokenize", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: list[int] = json.load(answer)["tokens"]
        return found

    def write(self, prompt: Sequence[int], options: Mapping[str, Any], listen: Listener, grammar: str = "") -> Written:
        """Go on from the prompt, which is cut to the context in silence, as Ollama cuts it."""
        limit = int(options.get("num_predict", -1))
        tokens = fitting(prompt, self.context, limit if limit > 0 else _ANSWER)
        asked: dict[str, Any] = {
            "prompt": tokens,
            "stream": True,
            "max_tokens": min(limit if limit > 0 else self.context, self.context - len(tokens)),
            "temperature": options.get("temperature", 0.8),
            "top_k": options.get("top_k", 40),
            "top_p": options.get("top_p", 0.9),
            "seed": options.get("seed", -1),
            "repeat_penalty": options.get("repeat_penalty", 1.1),
            "stop": options.get("stop") or [],
            **({"grammar": grammar} if grammar else {}),
        }
        done = Written(prompt_tokens=len(tokens))

        def hear(events: Any) -> bool:
            for event in events if isinstance(events, list) else [events]:
                done.heard = done.heard and _taken(event, done, listen)
            return not done.heard

        self._server.handle_completions(asked, hear)
        return done


def _yielding(start: Callable[[], Any]) -> Any:
    """What ``start`` gives; the threads that it makes let others go first, and whoever calls this does not."""
    made: Future[Any] = Future()

    def run() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)
            made.set_result(start())
        except Exception as error:
            made.set_exception(error)

    Thread(target=run).start()
    return made.result()


def _taken(event: Mapping[str, Any], done: Written, listen: Listener) -> bool:
    if "error" in event:
        raise WriterError(str(event["error"].get("message", event["error"])))
    choice = (event.get("choices") or [{}])[0]
    piece = str(choice.get("text") or "")
    done.reason = str(choice.get("finish_reason") or done.reason)
    if "timings" in event:
        timings = event["timings"]
        done.tokens = int(timings["predicted_n"])
        done.prompt_seconds, done.seconds = timings["prompt_ms"] / 1e3, timings["predicted_ms"] / 1e3
    done.text += piece
    return not (piece and listen(piece))
