"""What a parser says that a document took over is not believed, and never comes through at any length."""

import json
from typing import Any

import pytest

from app.ingest import answer
from app.ingest.outline import UnreadableError
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Piece, Size, Split

SIZE = Size(200, 30)
PIECE: dict[str, Any] = {"text": "The key hangs behind the door.", "headings": ["Keys"], "place": {"page": 3}}


def split(**changed: Any) -> Split:
    told = {"title": "House", "pieces": [PIECE]} | changed
    lines = [{"title": told["title"]}, *told["pieces"]]
    return answer.split([json.dumps(line).encode() for line in lines], SIZE, "a.pdf")


def test_what_a_parser_makes_is_taken() -> None:
    rows = PIECE | {"headings": [], "place": {"sheet": "Keys", "rows": [1, 9]}}

    assert split(pieces=[PIECE, rows]) == Split(
        "House",
        (
            Piece(PIECE["text"], ("Keys",), {"page": 3}),
            Piece(PIECE["text"], (), {"sheet": "Keys", "rows": [1, 9]}),
        ),
    )
    assert split(title="a\0b\x1b[31m\nc" + "d" * 9999).title == "a b [31m c" + "d" * 489 + "…"


@pytest.mark.parametrize(
    "changed",
    [
        {"text": ""},
        {"text": " \n"},
        {"text": 5},
        {"text": "a\0b"},
        {"text": "\ud800"},
        {"text": "word " * 400},
        {"headings": ["a"] * 13},
        {"headings": ["a" * 301]},
        {"headings": "Keys"},
        {"headings": [["Keys"]]},
        {"place": None},
        {"place": {"page": {"page": 3}}},
        {"place": {"page": 10**12}},
        {"place": {"sheet": "a" * 301}},
        {"place": {"rows": [1, 2, 3]}},
        {"place": {str(number): number for number in range(9)}},
    ],
    ids=str,
)
def test_a_passage_that_no_parser_makes_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match=r"^a\.pdf = not readable \(no parser's answer\); a copy"):
        split(pieces=[PIECE, PIECE | changed])


@pytest.mark.parametrize("title", [b"", b"[]", b"5", b"[" * 100_000, b"\xff", b"{}", b'{"title": 5}'])
@pytest.mark.parametrize("pieces", [[], [json.dumps(PIECE).encode()]])
def test_what_is_no_answer_is_refused(title: bytes, pieces: list[bytes]) -> None:
    with pytest.raises(UnreadableError, match=r"^a\.pdf = not readable \(no parser's answer\)"):
        answer.split([title, *pieces], SIZE, "a.pdf")


@pytest.mark.parametrize("lines", [[], [b'{"title": "a"}'], [b'{"title": "a"}', b""], [b'{"title": "a"}', b"[]"]])
def test_an_answer_without_a_passage_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(UnreadableError, match=r"^a\.pdf = not readable \(no parser's answer\)"):
        answer.split(lines, SIZE, "a.pdf")


def test_what_stands_beside_many_passages_is_held_once() -> None:
    first, second = split(pieces=[PIECE, PIECE | {"text": "The door is green."}]).pieces

    assert first.headings is second.headings
    assert first.place is second.place


def test_passages_and_their_text_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MOST_PIECES", 3)
    with pytest.raises(UnreadableError, match=r"^a\.pdf = over 3 passages; fewer, so split it"):
        split(pieces=[PIECE] * 4)
    monkeypatch.setattr(answer, "_MOST_TEXT", 70)
    with pytest.raises(UnreadableError, match=r"no parser's answer"):
        split(pieces=[PIECE] * 3)
    # Headings count as far as each passage has its own.
    monkeypatch.setattr(answer, "_MOST_TEXT", 250)
    assert split(pieces=[PIECE | {"headings": ["a" * 100]}] * 3)
    with pytest.raises(UnreadableError, match=r"no parser's answer"):
        split(pieces=[PIECE | {"headings": [letter * 100]} for letter in "ab"])


@pytest.mark.parametrize(("key", "kind"), [("open", OpenDoorError), ("error", UnreadableError)])
@pytest.mark.parametrize("said", ["a\nb\x1b]0;" * 10_000, {"a": "b" * 10_000}, None])
def test_a_reason_is_one_short_line(key: str, kind: type[Exception], said: object) -> None:
    with pytest.raises(kind) as told:
        answer.told(json.dumps({key: said}).encode(), "a.pdf")

    assert len(str(told.value)) <= answer.LONGEST_LINE
    assert str(told.value).isprintable()
