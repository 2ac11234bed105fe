"""The measures of search and answers, on rankings made by hand; and the question set itself."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import httpx
import pytest

from app import evaluate
from app.distances import proposed
from app.evaluate import Asked, EvaluationError, Measured, Question, figures, first, hits, is_right, load, reciprocal
from app.ingest.formats import parse
from tests.bench import report as bench
from tests.bench.evaluation import promised
from tests.unit.sites import ROOT

SET = ROOT / "tests/evaluation/postgresql-manual.jsonl"
HELD_OUT = ROOT / "tests/evaluation/postgresql-manual-held-out.jsonl"
MANUAL = ROOT / "build/cache/postgresql-manual"
NOTICE = Question(question="How long?", documents=("contract.txt",), phrases=("90  days", "ninety days"))


def test_a_right_passage_is_of_an_expected_document_and_holds_one_of_the_phrases() -> None:
    assert is_right(NOTICE, "contract.txt", "The period\nis 90\nDays.")
    assert not is_right(NOTICE, "contract.txt", "The period is 30 days.")
    assert not is_right(NOTICE, "other.txt", "The period is 90 days.")
    assert is_right(Question(question="Where?", documents=("a.txt",)), "a.txt", "anything")


def test_the_first_right_passage_counts() -> None:
    ranks = [first([False, True, True]), first([True]), first([False] * 10), first([])]

    assert ranks == [2, 1, None, None]
    assert (hits(ranks, 1), hits(ranks, 3)) == (0.25, 0.5)
    assert reciprocal(ranks) == pytest.approx((1 / 2 + 1) / 4)
    assert (hits([], 1), reciprocal([])) == (None, None)


def test_an_answer_is_measured_by_its_citations_and_by_whether_it_should_have_been_given() -> None:
    nowhere = dict.fromkeys(evaluate.MODES)
    right = Asked({"vector": 4, "lexical": None, "hybrid": 1}, True, (True, True), (True, False))
    refused, invented = Asked(nowhere, False, (), ()), Asked({}, True, (False,), (False,))
    nonsense = Question(question="Who won?", answerable=False)

    found = figures([NOTICE, NOTICE, nonsense, nonsense], [right, refused, invented, refused], "hand")

    by_name = {figure.what: (figure.value, figure.repeats) for figure in found}
    assert by_name["vector hit@3"] == (0, 2)
    assert by_name["vector hit@5"] == by_name["hybrid hit@1"] == (0.5, 2)
    assert by_name["vector MRR"] == (0.125, 2)
    assert by_name["answered, of the answerable"] == (0.5, 2)
    assert by_name["citations verbatim in their passage"] == (pytest.approx(0.667), 3)
    assert by_name["citations verbatim and right"] == (0.5, 2)
    assert by_name["refused, of the unanswerable"] == (0.5, 2)


def test_a_question_is_asked_in_every_mode_and_its_citations_are_opened() -> None:
    asked: list[tuple[str, str | None]] = []

    def platform(request: httpx.Request) -> httpx.Response:
        path, mode = request.url.path, request.url.params.get("mode")
        asked.append((path, mode))
        if path.endswith("/documents"):
            return httpx.Response(200, json={"items": [{"id": "1", "file_name": "contract.txt"}], "next": None})
        if path == "/api/v1/search":
            texts = ["Other words.", "It is 90 days."] if mode == "lexical" else ["It is 90 days."]
            results = [{"document_id": "1", "text": text, "vector": {"rank": 1, "distance": 0.3}} for text in texts]
            return httpx.Response(200, json={"results": results, "degraded": None})
        if path == "/api/v1/questions":
            if len([path for path, _ in asked if path == "/api/v1/questions"]) == 1:
                return httpx.Response(503, headers={"retry-after": "0"})
            citations = [{"document_id": "1", "passage": 0, "quote": quote} for quote in ("is 90 days", "is 90 years")]
            return httpx.Response(200, json={"supported": True, "citations": citations})
        return httpx.Response(200, json={"text": "It is 90 days."})

    with httpx.Client(transport=httpx.MockTransport(platform), base_url="http://rag.test") as http:
        found = Measured(http, "contracts").ask(NOTICE)

    assert found == Asked({"vector": 1, "lexical": 2, "hybrid": 1}, True, (True, False), (True, False), 0.3)
    assert ("/api/v1/documents/1/passages/0", None) in asked


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"question": "Why?", "answer": "so"}', r"a\.jsonl question 1 = answer; extra inputs"),
        ("a.jsonl", "why?", r"a\.jsonl = Expecting value.*; a readable file of JSON lines or TOML"),
        ("a.jsonl", "", r"a\.jsonl = no questions; one at least"),
        ("a.toml", '[[question]]\nquestion = ""', r"a\.toml question 1 = question; string should have"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(EvaluationError, match=said):
        load(tmp_path / name)


def test_distances_are_proposed_that_no_unanswerable_question_is_within_and_no_answerable_one_beyond() -> None:
    answerable, others = [(True, 0.2), (True, 0.35), (True, 0.61), (True, None)], [(False, 0.37), (False, 0.8)]

    assert proposed([*answerable, *others]) == (
        "inference.distances = (0.36, 0.62); within 0.36: 2 of 3 answerable, 0 others; beyond 0.62: 1 of 2 others"
    )
    assert proposed(answerable).startswith("inference.distances = not proposed; questions that are answerable and")


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RAG_KEY", raising=False)

    assert evaluate.main([str(SET), "--collection", "postgresql", "--url", "https://rag.test"]) == 2
    assert capsys.readouterr().err == "RAG_KEY = unset; the platform's address and a key of yours; docs/api.md\n"


@pytest.mark.parametrize(("path", "answered", "unanswered"), [(SET, 60, 20), (HELD_OUT, 40, 15)])
def test_a_question_set_is_large_and_says_what_is_right(path: Path, answered: int, unanswered: int) -> None:
    questions = load(path)

    answerable = [question for question in questions if question.answerable]
    assert len(answerable) >= answered
    assert len(questions) - len(answerable) >= unanswered
    assert all(question.documents and question.phrases for question in answerable)
    assert len({question.question for question in questions}) == len(questions)
    assert sum(question.language == "de" for question in questions) >= 10


def test_no_question_that_the_search_was_tuned_with_is_held_out() -> None:
    assert not {one.question for one in load(SET)} & {one.question for one in load(HELD_OUT)}


@pytest.mark.skipif(not MANUAL.is_dir(), reason="the manual is fetched by make demo and make bench PART=evaluation")
def test_every_expected_phrase_stands_in_its_document() -> None:
    wrong = [
        (question.question, name)
        for question in (*load(SET), *load(HELD_OUT))
        for name in question.documents
        if not is_right(question, name, text_of(name))
    ]

    assert wrong == []


@cache
def text_of(name: str) -> str:
    parsed = parse((MANUAL / name).read_bytes(), name, 1)
    return "\n".join(paragraph for section in parsed.sections for paragraph in section.paragraphs)


@pytest.mark.parametrize(("least", "must"), [({"hybrid hit@5": 0.85}, "≥ 0.85"), ({}, "≥ 0.5")])
def test_the_bench_promises_that_both_halves_together_are_no_worse_than_one(least: dict[str, float], must: str) -> None:
    nowhere = dict.fromkeys(evaluate.MODES)
    asked = [Asked({**nowhere, "vector": 1}, True, (True,), (True,)), Asked(nowhere, True, (), ())]
    worse = figures(
        [NOTICE, NOTICE, Question(question="Who?", answerable=False)], [*asked, Asked({}, False, (), ())], ""
    )

    promises = {"refused, of the unanswerable": 0.8, **least}
    found = {one.what: one for one in promised([bench.Figure(**asdict(figure)) for figure in worse], promises)}

    hybrid = found["hybrid hit@5"]
    assert (hybrid.must, hybrid.holds, hybrid.peer, hybrid.ratio) == (must, False, 0.5, 0)
    assert (found["refused, of the unanswerable"].holds, found["vector MRR"].must) == (True, "")
