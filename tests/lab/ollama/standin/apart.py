"""An embedding model in a process of its own, as Ollama runs each model: what writes text holds no question up."""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any

from . import gguf
from .embedder import Embedder


class ApartError(Exception):
    """What went wrong on the other side."""


class Apart:
    """Texts to vectors; any number of threads may ask at a time."""

    def __init__(self, path: Path) -> None:
        # A session of its own is a group of its own to Linux's scheduler, beside those that write.
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-m", __package__, "embed", str(path)],
            # This program's own folders, whichever way it was started.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._asks, self._numbers, self._lock = self._process.stdin, count(), Lock()
        self._expected: dict[int, Future[dict[str, Any]]] = {}
        let_go = weakref.finalize(self, self._asks.close)
        Thread(target=_hear, args=(self._process.stdout, self._expected, let_go), daemon=True).start()

    def vectors(self, texts: Sequence[str], longest: int, *, truncate: bool) -> dict[str, Any]:
        """``embeddings`` and the number of ``tokens``; no embeddings where a text is longer and must not be cut.

        Raise ApartError with the other side's words where it fails.
        """
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            number = next(self._numbers)
            self._expected[number] = answer
            _say(self._asks, {"number": number, "texts": list(texts), "longest": longest, "truncate": truncate})
        said = answer.result()
        if "error" in said:
            raise ApartError(said["error"])
        return said


def serve(path: Path) -> None:
    """The other side: a line for each request, and an answer on a line when it is ready; until nobody asks."""
    embedder, lock = Embedder(gguf.read(path)), Lock()

    def answer(asked: Mapping[str, Any]) -> None:
        try:
            said = _vectors(embedder, asked)
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        with lock:
            _say(sys.stdout.buffer, {"number": asked["number"], **said})

    for line in sys.stdin.buffer:
        Thread(target=answer, args=(json.loads(line),), daemon=True).start()


def _vectors(embedder: Embedder, asked: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [embedder.tokens(text, asked["longest"]) for text in asked["texts"]]
    total = sum(len(numbers) for numbers, _ in tokens)
    if not asked["truncate"] and any(cut for _, cut in tokens):
        return {"tokens": total}
    found = embedder.embed([numbers for numbers, _ in tokens])
    return {"tokens": total, "embeddings": [vector.tolist() for vector in found]}


def _hear(answers: IO[bytes], expected: dict[int, Future[dict[str, Any]]], let_go: Any) -> None:
    for line in answers:
        said = json.loads(line)
        expected.pop(said["number"]).set_result(said)
    if let_go.alive:
        # It died, and whoever waits would wait for ever; systemd starts the whole anew.
        os.kill(os.getpid(), signal.SIGKILL)


def _say(to: IO[bytes], what: Mapping[str, Any]) -> None:
    to.write(json.dumps(what).encode() + b"\n")
    to.flush()
