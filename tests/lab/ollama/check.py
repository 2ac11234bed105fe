"""The stand-in, started here and asked by Ollama's own Python client: every answer the platform relies on."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import ollama

from tests.lab.ollama import build, models

CHAT, EMBEDDING = models.CHAT.name, models.EMBEDDING.name
_EXACT = {"temperature": 0, "num_ctx": 4096}
_PASSAGES = """\
<passage 1: PostgreSQL manual > 20.3 Connections>
port (integer)
The TCP port the server listens on; 5432 by default. The same port number is used for all IP addresses.
max_connections (integer)
Determines the maximum number of concurrent connections to the server. The default is typically 100 connections.
</passage>
<passage 2: PostgreSQL manual > 20.4 Resource Consumption>
shared_buffers (integer)
Sets the amount of memory the database server uses for shared memory buffers. The default is typically 128 megabytes.
</passage>
<passage 3: PostgreSQL manual > VACUUM>
VACUUM reclaims storage occupied by dead tuples. VACUUM FULL rewrites the entire contents of the table into a new disk
file with no extra space. This form is much slower and requires an ACCESS EXCLUSIVE lock on each table.
</passage>
<passage 4: PostgreSQL manual > 21.1 The pg_hba.conf File>
Client authentication is controlled by a configuration file, which traditionally is named pg_hba.conf.
</passage>
<passage 5: PostgreSQL manual > 13.2 Transaction Isolation>
Read Committed is the default isolation level in PostgreSQL. Serializable provides the strictest transaction isolation.
</passage>
"""
QUESTIONS = {
    "What is the default port of PostgreSQL?": "5432",
    "Which parameter sets the amount of memory for shared buffers?": "shared memory buffers",
    "What does VACUUM FULL do?": "rewrites",
    "Which file controls client authentication?": "pg_hba.conf",
    "What is the default transaction isolation level?": "Read Committed",
    "What is the maximum number of concurrent connections by default?": "100",
    "Who wrote Hamlet?": "not found in the documents",
}


def check() -> None:
    """Print one line for each promise; exit 1 when one is not kept."""
    if not build.MANIFEST.is_file():
        raise SystemExit("stand-in for Ollama = not built; python3 -m tests.lab.ollama build")
    with running() as address:
        client = ollama.Client(address, timeout=120, trust_env=False)
        broken = 0
        for promise in (_lists, _embeds, _cuts, _streams, _refuses, _shares, _breaks, _lets_go, _reads):
            began = time.monotonic()
            try:
                said = promise(client)
                print(f"ok    {promise.__name__[1:]:<8} {time.monotonic() - began:5.1f} s  {said}", flush=True)
            except AssertionError as error:
                broken += 1
                print(f"BROKEN {promise.__name__[1:]}  {error!r}", flush=True)
    if broken:
        raise SystemExit(1)


@contextmanager
def running(variables: Mapping[str, str] | None = None) -> Iterator[str]:
    """The stand-in on a free port of this computer, with this computer's Python."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(build.STORE),
        "OLLAMA_NUM_PARALLEL": "2",
        **(variables or {}),
    }
    command = [str(build.VENV / "bin" / "python"), "-m", "tests.lab.ollama.standin", "serve"]
    with subprocess.Popen(command, cwd=models.ROOT, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            _await(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _await(address: str) -> None:
    for _ in range(200):
        try:
            httpx.get(address, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{address} = no answer in 10 s; the stand-in is needed; python3 -m tests.lab.ollama build")


def _lists(client: ollama.Client) -> str:
    held = {one.model: one.digest for one in client.list().models}
    assert held == json.loads(build.MANIFEST.read_text())["models"]
    assert client.show(EMBEDDING).capabilities == ["embedding"]
    assert not client.ps().models
    return ", ".join(f"{name} {str(digest)[:12]}" for name, digest in held.items())


def _embeds(client: ollama.Client) -> str:
    cat, kitten, tax = client.embed(EMBEDDING, ["A cat sleeps.", "A kitten naps.", "Tax law changed."]).embeddings
    again = client.embed(EMBEDDING, "A cat sleeps.").embeddings[0]
    near, far = _product(cat, kitten), _product(cat, tax)
    assert abs(_product(cat, cat) - 1) < 1e-5
    assert list(again) == list(cat)
    assert near > far + 0.3
    return f"{len(cat)} dimensions, length 1, cat-kitten {near:.2f}, cat-tax {far:.2f}"


def _cuts(client: ollama.Client) -> str:
    long = client.embed(EMBEDDING, "word " * 1000)
    refused = _status(lambda: client.embed(EMBEDDING, "word " * 1000, truncate=False))
    assert long.prompt_eval_count == 256
    assert refused == 400
    told = client.generate(CHAT, "word " * 2000, options={"num_ctx": 512, "num_predict": 4, "temperature": 0})
    assert (told.prompt_eval_count or 0) <= 512
    return f"embeddings at 256 tokens, prompts at num_ctx ({told.prompt_eval_count} of 2000 words)"


def _streams(client: ollama.Client) -> str:
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    parts = list(client.chat(CHAT, asked, stream=True, options={**_EXACT, "num_predict": 40}))
    text, last = "".join(part.message.content or "" for part in parts), parts[-1]
    whole = client.chat(CHAT, asked, options={**_EXACT, "num_predict": 40})
    assert "Paris" in text
    assert last.done
    assert last.eval_count
    assert whole.message.content == text
    rate = last.eval_count / ((last.eval_duration or 1) / 1e9)
    return f"{text.strip()!r} in {len(parts)} parts, {rate:.0f} tokens/s"


def _refuses(client: ollama.Client) -> str:
    found = {
        "unknown model": _status(lambda: client.chat("nope", [{"role": "user", "content": "x"}])),
        "chat with embeddings": _status(lambda: client.chat(EMBEDDING, [{"role": "user", "content": "x"}])),
        "pull": _status(lambda: client.pull("nope")),
        "keep_alive 5": _status(lambda: client.embed(EMBEDDING, "x", keep_alive="5")),
    }
    assert list(found.values()) == [404, 400, 500, 400]
    return ", ".join(f"{what} {status}" for what, status in found.items())


def _shares(client: ollama.Client) -> str:
    def ask(number: int) -> int:
        return client.generate(CHAT, f"Count from {number}:", options={**_EXACT, "num_predict": 8}).eval_count or 0

    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(ask, range(6)))
    assert all(counts)
    return f"{len(counts)} answers at once, two at a time"


def _breaks(client: ollama.Client) -> str:
    ask = lambda: list(client.generate(CHAT, "Tell me a story.", stream=True, options=_EXACT))  # noqa: E731
    with _knob(client, {"fail": "503"}):
        busy = _status(ask)
    with _knob(client, {"fail": "midstream"}):
        middle = _status(ask)
    # Whoever hangs up frees the place: after two endless stories the third question is not kept waiting.
    for _ in range(2):
        story = client.generate(CHAT, "Tell me a long story.", stream=True, options={**_EXACT, "num_predict": 3500})
        next(iter(story))
        story.close()  # type: ignore[attr-defined]
    began = time.monotonic()
    client.generate(CHAT, "Hello", options={**_EXACT, "num_predict": 2})
    waited = time.monotonic() - began
    assert waited < 10, waited
    assert (busy, middle) == (503, -1)
    return f"503 and an error in mid-stream on demand; {waited:.1f} s for an answer after two clients hung up"


def _lets_go(client: ollama.Client) -> str:
    client.embed(EMBEDDING, "x", keep_alive="1s")
    before = {one.model for one in client.ps().models}
    time.sleep(1.6)
    after = {one.model for one in client.ps().models}
    assert EMBEDDING in before - after
    return "a model is unloaded after its keep_alive"


def _reads(client: ollama.Client) -> str:
    right = 0
    for question, wanted in QUESTIONS.items():
        message = f"{_PASSAGES}\nQuestion: {question}\nAnswer:"
        messages = [
            {"role": "system", "content": "Answer from the passages only."},
            {"role": "user", "content": message},
        ]
        answer = client.chat(CHAT, messages, options=_EXACT)
        right += wanted in (answer.message.content or "")
        seconds = (answer.total_duration or 0) / 1e9
        print(f"      {question}\n         {seconds:.1f} s  {answer.message.content!r}", flush=True)
    assert right >= len(QUESTIONS) - 1, right
    return f"{right} of {len(QUESTIONS)} questions right"


def _product(one: Any, other: Any) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))


def _status(ask: Callable[[], object]) -> int:
    try:
        ask()
    except ollama.ResponseError as error:
        return error.status_code
    return 200


@contextmanager
def _knob(client: ollama.Client, wanted: Mapping[str, Any]) -> Iterator[None]:
    address = str(client._client.base_url).rstrip("/") + "/standin/knobs"
    httpx.post(address, json=wanted, trust_env=False)
    try:
        yield
    finally:
        httpx.post(address, json={}, trust_env=False)
