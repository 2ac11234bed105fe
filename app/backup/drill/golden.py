"""Golden questions that nobody has to write: a sentence out of a stored passage must find it, and be cited from it.

Which words a model chooses is not what a backup proves, so a drill does not hang on them: the search and the check of
citations are asked for the sentence itself, and what the model cites is only held to be true.
"""

import contextlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import Connection, Engine, text

from app.answer import cite
from app.backup.drill.checks import CheckError
from app.backup.drill.place import process
from app.backup.drill.stack import USER, Stack
from app.retrieve.weights import Frequencies
from app.sentences import content_words, sentences
from app.settings import Answering
from app.store import passages, users
from app.store.database import engine, reading, writing
from app.store.passages import Passage

SEARCHED = 5
ASKED = 2
TRIES = 60
PATIENCE, PAUSE_SECONDS = 6, 5.0
# Of a sentence that tells enough to be looked for, and is prose rather than a table.
FEWEST_WORDS, MOST_WORDS, MOST_CHARACTERS = 6, 30, 500
SIGN_IN = secrets.token_urlsafe(24)
# As much as the search takes, with the words of a question before it.
MOST_CHARACTERS_OF_A_LINE = 3000
NOTHING = "the application runs; no document is indexed, so there is nothing to ask for"


@dataclass(frozen=True)
class Golden:
    """A sentence that stands in a passage of a collection, and is asked for."""

    collection: str
    passage: Passage
    sentence: str


@contextlib.contextmanager
def api(stack: Stack, folder: Path, seconds: float) -> Iterator[httpx.Client]:
    """The application, with somebody signed in who may read everything."""
    address = f"http://127.0.0.1:{stack.settings.listen.api}"

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{address}/health/live", trust_env=False, timeout=5).status_code == 200
        return False

    environment = {"RAG_CONFIG": str(stack.file), "RUNTIME_DIRECTORY": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:app.api.gunicorn", "app.api.main:application()"]
    with process(folder, command, environment, answers, seconds):
        pool = engine(stack.settings.database, "read-write")
        try:
            reader = users.new(uuid4(), f"{USER}-{secrets.token_hex(4)}", SIGN_IN, "admin")
            writing(pool, lambda connection: users.create(connection, reader))
        finally:
            pool.dispose()
        # Of a restored site all is there but what the model needs, which is another machine's.
        with httpx.Client(base_url=address, trust_env=False, timeout=120) as client:
            said = client.post("/api/v1/token", json={"username": reader.name, "password": SIGN_IN})
            if said.status_code != 200:
                raise CheckError(f"sign-in = {said.status_code}; a token; {said.text[:200]}")
            client.headers["Authorization"] = f"Bearer {said.json()['access_token']}"
            yield client


def chosen(stack: Stack) -> list[Golden]:
    """
    Sentences of documents taken at random, or words of a line where they have none; raise CheckError without either.

    None only where no document is indexed: then there is nothing to ask for, and that is said.
    """
    pool = engine(stack.settings.database, "read-write", role="reader")
    try:
        return reading(pool, asked_for)
    finally:
        pool.dispose()


def asked_for(connection: Connection) -> list[Golden]:
    """The same in a transaction."""
    for of in (best, piece):
        found: dict[str, Golden] = {}
        for _ in range(TRIES):
            if len(found) == SEARCHED:
                break
            golden = _one(connection, of)
            if golden:
                found[golden.sentence] = golden
        if found:
            return list(found.values())
    indexed = connection.execute(text("select count(*) from documents where state = 'indexed'")).scalar_one()
    if indexed:
        raise CheckError(f"{indexed} indexed documents = no passage with a word to ask for; text in what they hold")
    return []


def _one(connection: Connection, of: Callable[[str], str]) -> Golden | None:
    row = connection.execute(
        text(
            "with document as ("
            " (select id, collection_id from documents where state = 'indexed' and id >= :id order by id limit 1)"
            " union all (select id, collection_id from documents where state = 'indexed' order by id limit 1) limit 1"
            ") select c.name, p.document_id, p.ordinal from document d join collections c on c.id = d.collection_id"
            " join passages p on p.document_id = d.id order by random() limit 1"
        ),
        {"id": uuid4()},
    ).one_or_none()
    passage = passages.one(connection, row.document_id, row.ordinal) if row else None
    if not row or not passage:
        return None
    sentence = of(passage.text)
    return Golden(row.name, passage, sentence) if sentence else None


def best(words: str) -> str:
    """The sentence that tells most, empty where there is none that a search could tell apart."""
    fitting = [
        one
        for one in sentences(words)
        if one.endswith(".") and len(one) <= MOST_CHARACTERS and FEWEST_WORDS <= len(content_words(one)) <= MOST_WORDS
    ]
    return next(iter(_by_telling(fitting)), "")


def piece(words: str) -> str:
    """Of lists, tables and headings the line that tells most and can be cited, empty where there is none."""
    lines = [one for one in sentences(words) if len(one) <= MOST_CHARACTERS_OF_A_LINE]
    return next((one for one in _by_telling(lines) if _can_be_cited(one, words)), "")


def _by_telling(those: Sequence[str]) -> list[str]:
    """What has most words that carry meaning first; what has none is left out."""
    # A passage's marks would be taken for ours, and a refusal is never cited.
    plain = [one for one in those if "[" not in one and "\n" not in one and cite.REFUSAL not in one.lower()]
    told = {one: len(set(content_words(one))) for one in plain}
    return sorted((one for one in plain if told[one]), key=lambda one: -told[one])


def _can_be_cited(one: str, words: str) -> bool:
    """Of some lines, as of the number of a list with a word beside it, the check of citations believes nothing."""
    passage = Passage(uuid4(), 0, "", "", None, words)
    checked = cite.check(dict.fromkeys(content_words(one), 1.0), f"{one.rstrip('.')} [1].", [passage], Answering())
    return any(one in citation.quote for citation in checked.citations)


def searched(client: httpx.Client, golden: Sequence[Golden]) -> str:
    """Each sentence, searched by words and vectors, finds a passage that says it."""
    firsts = 0
    for one in golden:
        results = _results(client, one)
        saying = [place for place, result in enumerate(results) if one.sentence in result["text"]]
        if not saying:
            raise CheckError(f"search for {_short(one.sentence)} = without {one.passage.title}, which says it")
        firsts += saying[0] == 0
    return f"{len(golden)} sentences found the documents that say them, {firsts} of them first"


def cited(client: httpx.Client, stack: Stack, golden: Sequence[Golden]) -> str:
    """A sentence, as the answer to what the search finds for it, is cited word for word from its passage."""
    pool = engine(stack.settings.database, "read-write", role="reader")
    try:
        for one in golden:
            results = _results(client, one)
            if not any(one.sentence in result["text"] for result in results):
                raise CheckError(f"search for {_short(one.sentence)} = without {one.passage.title}, which says it")
            ids = [passages.passage_id(result["document_id"], result["passage"]) for result in results]
            checked = reading(pool, partial(_checked, stack=stack, golden=one, ids=ids))
            if not any(one.sentence in cited.passage.text and _true(cited) for cited in checked.citations):
                raise CheckError(f"answer {_short(one.sentence)} = not cited from {one.passage.title}; its words")
    finally:
        pool.dispose()
    return f"{len(golden)} sentences, as answers, were cited word for word from the passages that say them"


def _checked(connection: Connection, stack: Stack, golden: Golden, ids: Sequence[str]) -> cite.Checked:
    found = passages.by_ids(connection, None, ids)
    collection = connection.execute(
        text("select collection_id from documents where id = :id"), {"id": golden.passage.document_id}
    ).scalar_one()
    asked = Frequencies().asked(connection, [collection], golden.sentence)
    # As a model says it that names its passage: others may say nearly the same.
    number = next(place for place, passage in enumerate(found, start=1) if golden.sentence in passage.text)
    said = f"{golden.sentence.rstrip('.')} [{number}]."
    return cite.check(asked.weights, said, found, stack.settings.answering)


def _true(citation: cite.Citation) -> bool:
    return bool(citation.quote) and citation.quote in citation.passage.text


@dataclass(frozen=True)
class Answered:
    """What the model was asked, and in how many answers it cited; what it cites must be true."""

    asked: int
    cited: int
    model: str

    def __str__(self) -> str:
        said = f"{self.model} answered {self.asked} questions and cited in {self.cited} of them, each time truly"
        return (
            said if self.cited else f"{self.model} answered {self.asked} questions and cited nothing, so nothing false"
        )


def answered(client: httpx.Client, stack: Stack, golden: Sequence[Golden]) -> Answered:
    """Ask the model through the application; a citation that does not stand in the passage it names is a failure."""
    pool = engine(stack.settings.database, "read-write", role="reader")
    count, model = 0, ""
    try:
        for one in golden[:ASKED]:
            question = f"What do the documents say about this: {one.sentence}"
            wanted = {"collection": one.collection, "question": question, "stream": False}
            said = _patiently(partial(client.post, "/api/v1/questions", json=wanted))
            if said.status_code != 200:
                raise RuntimeError(f"question = {said.status_code}; {said.text[:200]}")
            answer = said.json()
            model = answer["model"]
            for citation in answer["citations"]:
                _stands(pool, citation)
            count += bool(answer["citations"])
    finally:
        pool.dispose()
    return Answered(min(len(golden), ASKED), count, model)


def _stands(pool: Engine, citation: dict[str, Any]) -> None:
    identifier = passages.passage_id(citation["document_id"], citation["passage"])
    found = reading(pool, lambda connection: passages.by_ids(connection, None, [identifier]))
    if not found or citation["quote"] not in found[0].text:
        raise CheckError(f"citation of {citation['title']} = not in passage {identifier}; {_short(citation['quote'])}")


def _results(client: httpx.Client, golden: Golden) -> list[dict[str, Any]]:
    wanted: dict[str, str | int] = {"collection": golden.collection, "q": golden.sentence, "limit": 10}
    said = _patiently(partial(client.get, "/api/v1/search", params=wanted))
    if said.status_code != 200:
        raise CheckError(f"search = {said.status_code}; results; {said.text[:200]}")
    answer: dict[str, Any] = said.json()
    if answer["degraded"]:
        raise RuntimeError(
            f"search = without {answer['degraded']}; both halves; the pool's socket, systemctl status haproxy"
        )
    results: list[dict[str, Any]] = answer["results"]
    return results


def _patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask again while every inference host is taken: the people of the site come first, and a drill can wait."""
    for _ in range(PATIENCE):
        said = ask()
        if said.status_code != 503 and '"degraded":"inference"' not in said.text:
            break
        time.sleep(PAUSE_SECONDS)
    return said


def _short(sentence: str) -> str:
    return f"“{sentence if len(sentence) <= 80 else sentence[:80] + '…'}”"
