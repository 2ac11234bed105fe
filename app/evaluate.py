"""How well a collection is searched and answered from, measured as its users meet it: through the API.

    RAG_KEY=… python -m app.evaluate questions.jsonl --collection manuals --url https://rag.example.com

The file has a line of JSON (or a TOML table ``[[question]]``) for each question: ``question``, ``documents`` (names of
the files that answer it), ``phrases`` (one of which a right passage contains), ``answerable`` and, where it is not the
documents', its ``language``.
"""

import argparse
import json
import os
import platform
import ssl
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.distances import proposed

MODES = ("vector", "lexical", "hybrid")
DEPTHS = (1, 3, 5)
# As deep as a right passage counts for the reciprocal rank.
DEEPEST = 10
TRIES = 8


class EvaluationError(Exception):
    """The evaluation cannot begin or go on; the message is one line for whoever started it."""


class Question(BaseModel):
    """A question and what is right about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question: str = Field(min_length=1, max_length=4000)
    documents: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    answerable: bool = True
    language: str = Field(default="", description="Of the question, where it is not the documents'.")


@dataclass(frozen=True)
class Asked:
    """What came of a question: the first right passage's rank in each mode, and how its answer stands."""

    ranks: Mapping[str, int | None]
    supported: bool
    verbatim: tuple[bool, ...]
    right: tuple[bool, ...]
    # Of the passage that is nearest by its vector; None where the collection is empty.
    nearest: float | None = None


@dataclass(frozen=True)
class Figure:
    """One measure as `make bench` writes it; ``must`` is a limit in words, empty when nothing is promised."""

    area: str
    what: str
    value: float | None
    unit: str
    must: str
    holds: bool
    peer: float | None
    ratio: float | None
    repeats: int
    machine: str


def load(path: Path) -> list[Question]:
    """The file's questions; raise EvaluationError naming the first that cannot be used."""
    try:
        written = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            entries = tomllib.loads(written).get("question", [])
        else:
            entries = [json.loads(line) for line in written.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} = {error}; a readable file of JSON lines or TOML") from None
    questions = [_question(path, number, entry) for number, entry in enumerate(entries, start=1)]
    if not questions:
        raise EvaluationError(f"{path} = no questions; one at least")
    return questions


def is_right(question: Question, file_name: str, text: str) -> bool:
    """Whether the passage is one that answers: of an expected document, with one of the phrases in it."""
    plain = _plain(text)
    return file_name in question.documents and (
        not question.phrases or any(_plain(phrase) in plain for phrase in question.phrases)
    )


def first(right: Iterable[bool]) -> int | None:
    """The rank, from 1, of the first right one."""
    return next((rank for rank, one in enumerate(right, start=1) if one), None)


def hits(ranks: Sequence[int | None], depth: int) -> float | None:
    """Share of the questions with a right passage among the first ``depth``."""
    return _share([rank is not None and rank <= depth for rank in ranks])


def reciprocal(ranks: Sequence[int | None]) -> float | None:
    """Mean of 1 / rank of the first right passage, 0 where none was found (MRR)."""
    return sum(1 / rank for rank in ranks if rank) / len(ranks) if ranks else None


def figures(questions: Sequence[Question], asked: Sequence[Asked], area: str) -> list[Figure]:
    """The measures of these questions; ``repeats`` is from how many each is."""
    answerable = [one for question, one in zip(questions, asked, strict=True) if question.answerable]
    others = [one for question, one in zip(questions, asked, strict=True) if not question.answerable]
    found = [
        (f"{mode} {name}", measure([one.ranks[mode] for one in answerable]), len(answerable))
        for mode in MODES
        for name, measure in (
            *((f"hit@{depth}", lambda ranks, depth=depth: hits(ranks, depth)) for depth in DEPTHS),
            ("MRR", reciprocal),
        )
    ]
    verbatim = [quote for one in asked for quote in one.verbatim]
    right = [citation for one in answerable for citation in one.right]
    found += [
        ("answered, of the answerable", _share([one.supported for one in answerable]), len(answerable)),
        ("answered from a right passage", _share([any(one.right) for one in answerable]), len(answerable)),
        ("citations verbatim in their passage", _share(verbatim), len(verbatim)),
        ("citations verbatim and right", _share(right), len(right)),
        ("refused, of the unanswerable", _share([not one.supported for one in others]), len(others)),
    ]
    return [
        Figure(area, what, None if value is None else round(value, 3), "", "", True, None, None, count, machine())
        for what, value, count in found
    ]


def table(columns: Mapping[str, Sequence[Figure]]) -> str:
    """A line for each measure, a column for each set of questions."""
    width = max(len(figure.what) for some in columns.values() for figure in some)
    lines = [" " * width + "".join(f"  {name:>10}" for name in columns)]
    for row in zip(*columns.values(), strict=True):
        cells = "".join(f"  {'-' if one.value is None else format(one.value, '.3f'):>10}" for one in row)
        lines.append(f"{row[0].what:<{width}}{cells}")
    return "\n".join(lines)


def machine() -> str:
    """The computer in one line."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


class Measured:
    """A collection behind its API."""

    def __init__(self, http: httpx.Client, collection: str) -> None:
        self._http = http
        self._collection = collection
        self._names = self._file_names()

    def ask(self, question: Question) -> Asked:
        """Search in every mode, ask, and open every citation."""
        ranks = {mode: self._rank(question, mode) for mode in MODES} if question.answerable else {}
        answer = self._call(
            "POST", "/api/v1/questions", json={"collection": self._collection, "question": question.question}
        )
        passages = [(citation, self._cited(citation)) for citation in answer["citations"]]
        verbatim = tuple(citation["quote"] in text for citation, text in passages)
        right = tuple(
            whole and is_right(question, self._names.get(citation["document_id"], ""), text)
            for whole, (citation, text) in zip(verbatim, passages, strict=True)
        )
        return Asked(ranks, bool(answer["supported"]), verbatim, right, self._nearest(question))

    def _nearest(self, question: Question) -> float | None:
        found = self._found(question, "vector")["results"]
        return min((one["vector"]["distance"] for one in found if one["vector"]), default=None)

    def _rank(self, question: Question, mode: str) -> int | None:
        found, names = self._found(question, mode), self._names
        return first(is_right(question, names.get(one["document_id"], ""), one["text"]) for one in found["results"])

    def _found(self, question: Question, mode: str) -> Any:
        wanted = {"collection": self._collection, "q": question.question, "limit": DEEPEST, "mode": mode}
        found = self._call("GET", "/api/v1/search", params=wanted)
        if found["degraded"]:
            raise EvaluationError(f"search = without its {found['degraded']}; a whole one; GET /health/ready")
        return found

    def _cited(self, citation: Mapping[str, Any]) -> str:
        path = f"/api/v1/documents/{citation['document_id']}/passages/{citation['passage']}"
        return str(self._call("GET", path)["text"])

    def _file_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            path = f"/api/v1/collections/{self._collection}/documents"
            page = self._call("GET", path, params={"after": after, "limit": 500})
            names |= {document["id"]: document["file_name"] for document in page["items"]}
            after = page["next"]
        return names

    def _call(self, method: str, path: str, **options: Any) -> Any:
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                raise EvaluationError(f"{self._http.base_url} = {error}; a platform that answers") from None
            if answer.status_code not in {429, 503} or attempt == TRIES:
                break
            time.sleep(float(answer.headers.get("retry-after", 2)))
        if answer.is_success:
            return answer.json()
        raise EvaluationError(f"{path} = {answer.status_code}; {_detail(answer)}")


def main(arguments: list[str]) -> int:
    """Print the table, and the same as JSON where that is wanted; exit 2 when nothing can be measured."""
    parser = argparse.ArgumentParser(prog="python -m app.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON lines or TOML")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--url", default=os.environ.get("RAG_URL", ""), help="the platform; else $RAG_URL")
    parser.add_argument("--ca", type=Path, help="file of the CA that signed the platform's certificate")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    wanted = parser.parse_args(arguments)
    try:
        questions = load(wanted.file)
        with _client(wanted.url, wanted.ca) as http:
            found = measured(Measured(http, wanted.collection), questions)
    except EvaluationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    result = figures(questions, found, f"evaluation of {wanted.collection}")
    nearest = ((one.answerable, asked.nearest) for one, asked in zip(questions, found, strict=True))
    sys.stdout.write(f"{table({'all': result})}\n{proposed(nearest)}\n")
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(figure) for figure in result], indent=2) + "\n")
    return 0


def measured(collection: Measured, questions: Sequence[Question]) -> list[Asked]:
    """Every question asked, one after the other, with a line that says how far it is."""
    found: list[Asked] = []
    for number, question in enumerate(questions, start=1):
        sys.stderr.write(f"\r{number} of {len(questions)} questions")
        sys.stderr.flush()
        found.append(collection.ask(question))
    sys.stderr.write("\n")
    return found


def _client(url: str, ca: Path | None) -> httpx.Client:
    # Not an argument: those every user of the machine can see.
    key = os.environ.get("RAG_KEY", "")
    if not url or not key:
        name = "--url" if not url else "RAG_KEY"
        raise EvaluationError(f"{name} = unset; the platform's address and a key of yours; docs/api.md")
    try:
        trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca) if ca else True
    except OSError as error:
        raise EvaluationError(f"--ca = {ca}; a readable file ({error.strerror})") from None
    return httpx.Client(base_url=url, verify=trust, timeout=180, headers={"Authorization": f"Bearer {key}"})


def _question(path: Path, number: int, entry: Any) -> Question:
    try:
        return Question.model_validate(entry)
    except ValidationError as error:
        first_ = error.errors()[0]
        key = ".".join(str(part) for part in first_["loc"]) or "entry"
        raise EvaluationError(f"{path} question {number} = {key}; {first_['msg'].lower()}") from None


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def _share(held: Sequence[bool]) -> float | None:
    return sum(held) / len(held) if held else None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
