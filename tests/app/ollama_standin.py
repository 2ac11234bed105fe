"""A stand-in for Ollama in the application's tests: bag-of-words vectors and an answer copied from the prompt.

It keeps to the same HTTP API and has the faults of a real host as switches. The real small models run in the lab.
"""

import contextlib
import hashlib
import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.sentences import content_words, sentences, stem

DIMENSION = 256
CHAT, EMBED = "standin-chat", "standin-embed"
# Another embedding model, which a site may go over to.
NEXT, NEXT_DIMENSION = "standin-next", 384
DIMENSIONS = {EMBED: DIMENSION, NEXT: NEXT_DIMENSION}


class OllamaStandin:
    """Serves on a loopback port of its own; its attributes are the switches."""

    def __init__(self) -> None:
        self.embed_seconds = 0.0
        self.answer_seconds = 0.0
        self.word_seconds = 0.0
        # Whoever asks has to wait for the first word until this is taken back.
        self.holds = False
        self.holds_embeddings = False
        self.says: str | None = None
        self.thinks = ""
        # Reads no more than so many tokens of a prompt, and fills the context with them.
        self.reads: int | None = None
        self.breaks_off = 0
        self.chokes_on = ""
        self.chokes = 0
        self.starting = False
        self.models = {CHAT, EMBED, NEXT}
        # What was asked of each embedding model.
        self.asked_of: dict[str, int] = dict.fromkeys(DIMENSIONS, 0)
        self.embedded = 0
        self.embeds: list[str] = []
        self.embedding = 0
        self.prompts: list[str] = []
        self.chats: list[dict[str, Any]] = []
        # Answers that nobody waited for any more, and how many were in the making at the same time.
        self.closed = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._counting = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._start(0)
        self.port: int = self._running().server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As when the machine is gone: nobody listens."""
        self._running().shutdown()
        self._running().server_close()
        self._server = None

    def start(self) -> None:
        self._start(self.port)

    def reset(self) -> None:
        self.embed_seconds = self.answer_seconds = self.word_seconds = 0.0
        self.says, self.breaks_off = None, 0
        self.thinks, self.reads = "", None
        self.holds = self.holds_embeddings = False
        self.chokes_on, self.chokes = "", 0
        self.starting = False
        self.models = {CHAT, EMBED, NEXT}
        if self._server is None:
            self.start()

    @contextmanager
    def working(self) -> Iterator[None]:
        """One more call in the making, until it ends or the caller is gone."""
        with self._counting:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        except ConnectionError:
            self.closed += 1
        finally:
            with self._counting:
                self.in_flight -= 1

    @contextmanager
    def embedding_one(self) -> Iterator[None]:
        """One more call for vectors in the making, until it ends or the caller is gone."""
        with self._counting:
            self.embedding += 1
        try:
            with contextlib.suppress(ConnectionError):
                yield
        finally:
            with self._counting:
                self.embedding -= 1

    def _running(self) -> ThreadingHTTPServer:
        assert self._server is not None
        return self._server

    def _start(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()


def _handler(standin: OllamaStandin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            models = [{"model": f"{name}:latest", "name": f"{name}:latest"} for name in sorted(standin.models)]
            self._json({"models": models, "version": "0.0.0"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if standin.starting:
                # What a host's door says while the service behind it comes up.
                self._json({"error": "service = starting or stopped; one that runs"}, 425)
            elif self.path == "/api/embed":
                with standin.embedding_one():
                    self._embed(asked)
            elif self.path == "/api/chat":
                self._chat(asked)
            else:
                self.send_error(404)

        def _embed(self, asked: dict[str, Any]) -> None:
            if asked["model"] not in standin.models:
                self._json({"error": f"model {asked['model']!r} not found"}, 404)
                return
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            # Counted when it is asked for: who asked may be gone when it is done, and another test be at work.
            counted = not (standin.chokes and standin.chokes_on in " ".join(texts))
            standin.embedded += len(texts) if counted else 0
            time.sleep(standin.embed_seconds)
            while standin.holds and standin.holds_embeddings:
                self._wait(0.02)
            standin.embeds += texts
            standin.asked_of[asked["model"]] += len(texts)
            if not counted:
                standin.chokes -= 1
                self._json({"error": "the runner ended as told"}, 500)
                return
            vectors = [embedding(text, DIMENSIONS[asked["model"]]) for text in texts]
            self._json({"model": asked["model"], "embeddings": vectors})

        def _chat(self, asked: dict[str, Any]) -> None:
            standin.chats.append(asked)
            prompt = asked["messages"][-1]["content"]
            standin.prompts.append(prompt)
            with standin.working():
                self._wait(standin.answer_seconds)
                while standin.holds:
                    self._wait(0.02)
                self.send_response(200)
                self.send_header("content-type", "application/x-ndjson")
                self.end_headers()
                if standin.thinks:
                    self._say(asked, thinking=standin.thinks)
                said = re.findall(r"\s*\S+", standin.says or _answer(prompt))
                for number, word in enumerate(said):
                    if number == 2 and standin.breaks_off:
                        standin.breaks_off -= 1
                        self._line({"error": "the stand-in broke off as told"})
                        return
                    self._say(asked, content=word)
                    self._wait(standin.word_seconds)
                tokens = sum(len(one["content"]) for one in asked["messages"]) // 4
                if standin.reads is not None and tokens > standin.reads:
                    tokens = asked["options"]["num_ctx"]
                counted = {"prompt_eval_count": tokens, "eval_count": len(said)}
                message = {"role": "assistant", "content": ""}
                last = {"model": asked["model"], "message": message, "done": True, "done_reason": "stop"}
                self._line(last | counted)

        def _say(self, asked: dict[str, Any], **words: str) -> None:
            self._line(
                {"model": asked["model"], "message": {"role": "assistant", "content": "", **words}, "done": False}
            )

        def _wait(self, seconds: float) -> None:
            """Work for so long, unless the caller hangs up."""
            if seconds and select.select([self.connection], [], [], seconds)[0]:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionResetError
                time.sleep(seconds)

        def _line(self, data: dict[str, Any]) -> None:
            self.wfile.write(json.dumps(data).encode() + b"\n")
            self.wfile.flush()

        def _json(self, data: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def embedding(text: str, dimension: int = DIMENSION) -> list[float]:
    vector = [0.0] * dimension
    for word in content_words(text) or ["nothing"]:
        number = int.from_bytes(hashlib.blake2b(stem(word).encode(), digest_size=8).digest(), "big")
        vector[number % dimension] += 1.0 if number >> 63 else -1.0
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / length for value in vector]


def _answer(prompt: str) -> str:
    """The sentence of the passages that shares most words with the question."""
    before, _, question = prompt.rpartition("Question:")
    asked = {stem(word) for word in content_words(question.removesuffix("Answer:"))}
    texts = re.findall(r"^<passage [^\n]*>\n(.*?)\n</passage", before, re.DOTALL | re.MULTILINE)
    candidates = [sentence for text in texts for line in text.splitlines() for sentence in sentences(line)]
    if not candidates:
        return "I do not know."
    return max(candidates, key=lambda candidate: len(asked & {stem(word) for word in content_words(candidate)}))
