"""A stand-in for Ollama in the application's tests: bag-of-words vectors and an answer copied from the prompt.

It keeps to the same HTTP API and has the faults of a real host as switches. The real small models run in the lab.
"""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.sentences import content_words, sentences, stem

DIMENSION = 256
CHAT, EMBED = "standin-chat", "standin-embed"


class OllamaStandin:
    """Serves on a loopback port of its own; its attributes are the switches."""

    def __init__(self) -> None:
        self.embed_seconds = 0.0
        self.answer_seconds = 0.0
        self.word_seconds = 0.0
        self.says: str | None = None
        self.breaks_off = 0
        self.chokes_on = ""
        self.chokes = 0
        self.starting = False
        self.embedded = 0
        self.prompts: list[str] = []
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
        self.chokes_on, self.chokes = "", 0
        self.starting = False
        if self._server is None:
            self.start()

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
            models = [{"model": f"{name}:latest", "name": f"{name}:latest"} for name in (CHAT, EMBED)]
            self._json({"models": models, "version": "0.0.0"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if standin.starting:
                # What a host's door says while the service behind it comes up.
                self._json({"error": "service = starting or stopped; one that runs"}, 425)
            elif self.path == "/api/embed":
                texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
                time.sleep(standin.embed_seconds)
                if standin.chokes and standin.chokes_on in " ".join(texts):
                    standin.chokes -= 1
                    self._json({"error": "the runner ended as told"}, 500)
                    return
                standin.embedded += len(texts)
                self._json({"model": asked["model"], "embeddings": [embedding(text) for text in texts]})
            elif self.path == "/api/chat":
                self._chat(asked)
            else:
                self.send_error(404)

        def _chat(self, asked: dict[str, Any]) -> None:
            prompt = asked["messages"][-1]["content"]
            standin.prompts.append(prompt)
            time.sleep(standin.answer_seconds)
            self.send_response(200)
            self.send_header("content-type", "application/x-ndjson")
            self.end_headers()
            for number, word in enumerate(re.findall(r"\s*\S+", standin.says or _answer(prompt))):
                if number == 2 and standin.breaks_off:
                    standin.breaks_off -= 1
                    self._line({"error": "the stand-in broke off as told"})
                    return
                time.sleep(standin.word_seconds)
                self._line({"model": asked["model"], "message": {"role": "assistant", "content": word}, "done": False})
            message = {"role": "assistant", "content": ""}
            counts = {"prompt_eval_count": len(prompt.split()), "eval_count": 7}
            self._line({"model": asked["model"], "message": message, "done": True, "done_reason": "stop", **counts})

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


def embedding(text: str) -> list[float]:
    vector = [0.0] * DIMENSION
    for word in content_words(text) or ["nothing"]:
        number = int.from_bytes(hashlib.blake2b(stem(word).encode(), digest_size=8).digest(), "big")
        vector[number % DIMENSION] += 1.0 if number >> 63 else -1.0
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / length for value in vector]


def _answer(prompt: str) -> str:
    """The sentence of the passages that shares most words with the question."""
    passages, _, question = prompt.rpartition("Question:")
    asked = {stem(word) for word in content_words(question.removesuffix("Answer:"))}
    lines = [line for line in passages.splitlines() if not line.startswith(("<passage", "</passage"))]
    candidates = [sentence for line in lines for sentence in sentences(line)]
    if not candidates:
        return "I do not know."
    return max(candidates, key=lambda candidate: len(asked & {stem(word) for word in content_words(candidate)}))
